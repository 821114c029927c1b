"""The private parts of l2keras that the experiments use. No other module of them imports any.

Not public so far:

- the trainer under `l2keras.sweep`, which takes members in and gives their states back after each
  epoch: `Group`, `Template`, `Feed`, `Member`, `State`, `Trained`, `Plan`, `seated`, `train`;
- what decides whether and how many models are stacked: `check_model`, `check_elementwise`,
  `group_size`, `pays_as_cluster`, `threads`, and `widest` for evaluation;
- the learning rate of the last update of a Keras optimizer: `inner_optimizers`,
  `last_learning_rate`; whether a Keras metric is to grow: `is_better_if_higher`;
  its name: `uncounted_name`;
- whether a model has its variables: `is_built`.
"""

from __future__ import annotations

from l2keras._keras.losses import is_better_if_higher, uncounted_name
from l2keras._keras.optimizers import inner_optimizers, last_learning_rate
from l2keras._keras.variables import is_built
from l2keras._sweep.evaluation import widest
from l2keras._sweep.feed import Feed
from l2keras._sweep.group import Group
from l2keras._sweep.loops import threads
from l2keras._sweep.members import Member, State
from l2keras._sweep.optimizer import check_elementwise
from l2keras._sweep.stacking import check_model, group_size, pays_as_cluster
from l2keras._sweep.template import Template
from l2keras._sweep.training import Plan, Trained, seated, train

__all__ = [
    "Feed",
    "Group",
    "Member",
    "Plan",
    "State",
    "Template",
    "Trained",
    "check_elementwise",
    "check_model",
    "group_size",
    "inner_optimizers",
    "is_better_if_higher",
    "is_built",
    "last_learning_rate",
    "pays_as_cluster",
    "seated",
    "threads",
    "train",
    "uncounted_name",
    "widest",
]
