"""Opens the MLflow UI on the store: `python -m experiments.ui [flags of mlflow ui]`."""

from l2keras_experiments.runtime import boundary
from l2keras_experiments.sweeps.ui import main

if __name__ == "__main__":
    boundary.run(main)
