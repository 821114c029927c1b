"""The comparison of every way to write one lambda."""
