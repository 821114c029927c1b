"""Runs of a sweep that are trained at once."""
