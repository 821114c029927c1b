"""A regularizer on a model that exists already, and where it is saved."""
