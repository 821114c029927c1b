"""The main job: every way to write one lambda, side by side: `python -m experiments.compare`."""

from l2keras_experiments.console.compare import main
from l2keras_experiments.runtime import boundary

if __name__ == "__main__":
    boundary.run(main)
