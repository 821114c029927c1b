"""The search for lambda and the learning rate."""
