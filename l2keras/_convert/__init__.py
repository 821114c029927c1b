"""Coefficients of decay in every system, and what is equal to what. Imports no Keras."""
