"""One table of the names of the methods."""

from __future__ import annotations

from l2keras_experiments.config import methods
from l2keras_experiments.reports import drawing
from l2keras_experiments.reports.comparison import arms
from l2keras_experiments.training.regularization import METHODS


def test_every_method_has_a_label_and_a_look() -> None:
    """The methods of runs and of comparisons; other names stay as they are."""
    assert set(methods.LABELS) == {*METHODS, *arms.NAMES} == set(drawing.LOOKS)
    assert methods.label("half_l2") == "HalfL2"
    assert methods.label("mine") == methods.short("mine") == "mine"


def test_short_names_differ_within_the_letters_that_mlflow_shows() -> None:
    """A run is called `0.01 s0 HalfL2 ...`, of which 12 letters show: four of the method."""
    shown = [methods.short(name)[:4] for name in methods.LABELS if name != "builtin_half"]
    assert len(set(shown)) == len(shown)
    assert all(methods.short(name) in label for name, label in methods.LABELS.items())
