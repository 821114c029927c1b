"""One training run, or a sweep of them: `python -m experiments.train [overrides] [-m]`."""

from l2keras_experiments.console.train import main
from l2keras_experiments.runtime import boundary

if __name__ == "__main__":
    boundary.run(main)
