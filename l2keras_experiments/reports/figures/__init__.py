"""The figures of a study. Pure functions of its settings."""
