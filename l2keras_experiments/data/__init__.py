"""Datasets as NumPy arrays, where they come from, and their batches."""
