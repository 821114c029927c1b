"""The experiments that prove l2keras: Hydra in, MLflow out; `python -m experiments.<name>`."""
