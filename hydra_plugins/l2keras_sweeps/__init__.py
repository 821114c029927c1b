"""What Hydra finds by itself in a checkout: the sweeper `study`, the launchers."""
