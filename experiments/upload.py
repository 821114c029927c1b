"""Sends what a store did not take while a run lasted: `python -m experiments.upload FILE ...`."""

from l2keras_experiments.runtime import boundary
from l2keras_experiments.tracking.upload import main

if __name__ == "__main__":
    boundary.run(main)
