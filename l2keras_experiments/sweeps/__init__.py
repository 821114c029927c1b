"""Sweeps: which runs are done, which are left, and how they are launched."""
