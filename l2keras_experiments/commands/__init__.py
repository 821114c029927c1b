"""What the commands share: the checked config, and the launch by Hydra."""
