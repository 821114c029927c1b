"""What Hydra finds by itself in a checkout: the sweeper `study` and the launcher `isolated`."""
