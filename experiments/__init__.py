"""The experiments that prove l2keras: Hydra in, MLflow out. Run them as `python -m experiments.*`."""
