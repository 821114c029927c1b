"""What decays each variable of a model, and what looks wrong about it."""
