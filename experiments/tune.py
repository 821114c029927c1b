"""Searches lambda, and the learning rate if asked, for the lowest validation loss without penalty.

    python -m experiments.tune [overrides]

Launched again it goes on with the same study. It ends with a preset for experiments.train.
"""

from l2keras_experiments.console.tune import main
from l2keras_experiments.runtime import boundary

if __name__ == "__main__":
    boundary.run(main)
