"""Audits of the models of keras.applications."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

import l2keras


def check_application(name: str, **options: Any) -> None:
    """Asserts that the audit has Keras' counts, and what optimizer and default rule decay."""
    model = getattr(keras.applications, name)(weights=None, classes=7, **options)
    model.compile(keras.optimizers.SGD(0.5, weight_decay=0.1), "mse")
    report = l2keras.audit(model)
    assert len(report.rows) == len(model.weights)
    assert report.totals["all"]["parameters"] == model.count_params()
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert report.totals["decayed"]["parameters"] == trainable
    by_callback = l2keras.audit(model, [l2keras.WeightDecay(0.1)])
    assert "decayed-twice" in by_callback.codes()
    assert "role-guessed" not in by_callback.codes()
    selected = [row.path for row in by_callback.rows if row.callbacks]
    assert selected == [row.path for row in report.rows if row.role.endswith("kernel")]
    assert str(report)
