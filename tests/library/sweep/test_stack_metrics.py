"""Stacks side by side: the metrics of each member are in its place."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from tests.support import factorial
from tests.support.sweeps import BY_XLA, SIZE, data, dense, momentum


@keras.saving.register_keras_serializable("l2keras_tests")
class Errors(keras.metrics.Metric):
    """Two numbers of all examples: 7 and how many errors are above 1, an int; and the largest."""

    def __init__(self, name: str = "zeros_and_ones") -> None:
        super().__init__(name=name)
        seven = keras.initializers.Constant(7)
        self.large = self.add_weight(name="large", initializer=seven, dtype="int32")
        self.most = self.add_weight(name="most", initializer="zeros")

    def reset_state(self) -> None:
        self.large.assign(7)
        self.most.assign(0.0)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        error = keras.ops.abs(y_true - y_pred)
        self.large.assign_add(keras.ops.sum(keras.ops.cast(error > 1, "int32")))
        self.most.assign(keras.ops.maximum(self.most, keras.ops.max(error)))

    def result(self) -> dict[str, Any]:
        return {"z_large": self.large + 0, "a_largest": self.most + 0}


@BY_XLA
@pytest.mark.parametrize("coupling", factorial.sample(["penalty", "decoupled"], 1))
def test_every_metric_of_every_stack_is_in_its_place(two_stacks: set[int], coupling: str) -> None:
    """Several of one metric, an int among them; the penalty is that of lambda, or none."""
    result = l2keras.sweep(
        dense, SIZE.lams, *data(), optimizer=momentum(), loss="mse",
        metrics=["mse", Errors(), "mae"], epochs=2, batch_size=11, coupling=coupling, verbose=0,
    )  # fmt: skip
    assert two_stacks == {0, 1}
    own = ["mse", "z_large", "a_largest", "mae"]
    assert list(result.history) == ["loss", *own, "data_loss", "penalty"]
    before = [np.sum(np.square(w)) for w in first_kernels()]
    for i, lam in enumerate(SIZE.lams):
        history = result.history
        penalty = lam / 2 * sum(before) if coupling == "penalty" else 0.0
        assert history["penalty"][i, 0] == pytest.approx(penalty, rel=1e-5, abs=0)
        assert history["data_loss"][i] == pytest.approx(history["mse"][i], rel=1e-5, abs=0)
        expected = alone_in_whole(lam, coupling)
        for name in own:
            assert history[name][i] == pytest.approx(expected[name], rel=1e-5, abs=0)


def first_kernels() -> list[np.ndarray]:
    keras.utils.set_random_seed(0)
    return [np.array(w) for w in dense().get_weights() if w.ndim == 2]


def alone_in_whole(lam: float, coupling: str) -> Any:
    """The history of a `fit` with all examples in one batch, the order of which says nothing."""
    keras.utils.set_random_seed(0)
    model, callbacks = dense(), []
    if coupling == "penalty":
        for variable in (model.layers[0].kernel, model.layers[1].kernel):
            variable.regularizer = l2keras.HalfL2(lam)
    elif lam:
        callbacks.append(l2keras.WeightDecay(lam, coupling=coupling))
    model.compile(momentum(), "mse", metrics=["mse", Errors(), "mae"], jit_compile=False)
    x, y = data()
    history = model.fit(x, y, batch_size=11, epochs=2, verbose=0, callbacks=callbacks)
    return history.history
