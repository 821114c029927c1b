"""From the runs of a study to tables, figures and a page: `python -m experiments.report`."""

from l2keras_experiments.reports.report import main
from l2keras_experiments.runtime import boundary

if __name__ == "__main__":
    boundary.run(main)
