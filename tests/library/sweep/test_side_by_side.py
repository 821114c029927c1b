"""A group as several stacks side by side. On torch there is one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._keras.variables import standing_in
from l2keras._sweep import memory, stacking, training
from l2keras._sweep.group import Group
from tests.library.sweep.test_optimizers import OPTIMIZERS
from tests.support.models import BACKEND, ON_TENSORFLOW, to_numpy
from tests.support.sweeps import BATCH, BY_XLA, EPOCHS, LAMS, alone, data, dense, distance, momentum


def convolution() -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Conv2D(2, 2), layers.Flatten(), layers.Dense(2)]
    )


@BY_XLA
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
@pytest.mark.parametrize("coupling", ["penalty", "decoupled"])
def test_members_of_every_stack_are_trained_as_if_alone(
    stacks: set[int], seeds: tuple[int, ...], coupling: str
) -> None:
    """Five lambdas take six seats in two stacks; two seeds see batches of their own."""
    result = l2keras.sweep(
        dense, LAMS, *data(), validation_data=data(), optimizer=momentum(), loss="mse",
        metrics=["mae"], epochs=EPOCHS, batch_size=BATCH, coupling=coupling, seeds=seeds, verbose=0,
    )  # fmt: skip
    assert stacks == {0, 1}
    for i, (lam, seed) in enumerate((lam, seed) for lam in LAMS for seed in seeds):
        model, history = alone(
            dense, data(), momentum(), lam=lam, seed=seed, coupling=coupling, metrics=["mae"],
            validation_data=data(),
        )  # fmt: skip
        assert distance(result.weights[i], model.get_weights()) < 1e-5
        for name in ("loss", "mae", "val_loss", "val_mae"):
            assert np.allclose(result.history[name][i], history[name], rtol=1e-5, atol=0)


@BY_XLA
def test_stacks_are_equal_to_fit_in_float64(stacks: set[int], float64: None) -> None:
    """To 1e-10, Adam and its counts too."""
    x, y = (array.astype("float64") for array in data())
    result = l2keras.sweep(
        dense, LAMS, x, y, optimizer=keras.optimizers.Adam(0.1), loss="mse", epochs=EPOCHS,
        batch_size=BATCH, verbose=0,
    )  # fmt: skip
    assert stacks == {0, 1}
    for i, lam in enumerate(LAMS):
        model, _ = alone(dense, (x, y), keras.optimizers.Adam(0.1), lam=lam)
        assert distance(result.weights[i], model.get_weights()) < 1e-10


@BY_XLA
@pytest.mark.parametrize("name", ["Nadam", "average", "accumulation", "amsgrad"])
def test_each_stack_has_the_state_of_its_optimizer(
    stacks: set[int], float64: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Two groups, one after the other, of two lambdas, two seeds and a spare seat."""
    monkeypatch.setattr(memory, "MOST", 5)
    options: dict[str, Any] = {"epochs": 3, "coupling": "coupled", "validation_data": data()}
    result = l2keras.sweep(
        dense, LAMS, *data(), optimizer=OPTIMIZERS[name](), loss="mse", batch_size=BATCH,
        seeds=(0, 1), verbose=0, **options,
    )  # fmt: skip
    assert stacks == {0, 1}
    assert result.notes[0].startswith("10 members, 5 at once")
    for i, (lam, seed) in enumerate((lam, seed) for lam in LAMS for seed in (0, 1)):
        model, history = alone(dense, data(), OPTIMIZERS[name](), lam=lam, seed=seed, **options)
        assert distance(result.weights[i], model.get_weights()) < 1e-9
        assert np.allclose(result.history["val_loss"][i], history["val_loss"], rtol=1e-8, atol=0)


@BY_XLA
def test_members_that_are_left_move_where_each_thread_has_half_as_many(
    stacks: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two stacks of three, two are left, who would be as slow in one; or one, who goes on."""
    loaded: list[int] = []
    load = Group.load

    def noted(self: Any, *args: Any) -> None:
        loaded.append(self.size)
        load(self, *args)

    monkeypatch.setattr(Group, "load", noted)
    monkeypatch.setattr(training, "COMPILE_SECONDS", 0.0)

    def run(finite: int) -> Any:
        rates = [0.1] * finite + [1e30] * (5 - finite)
        return l2keras.sweep(
            dense, 0.3, *data(), optimizer=momentum(), learning_rates=rates, loss="mse",
            batch_size=BATCH, epochs=EPOCHS, verbose=0,
        )  # fmt: skip

    run(2)
    assert loaded == [6]
    loaded.clear()
    result = run(1)
    assert loaded == [6, 1]
    assert result.status == ("finished", *["diverged"] * 4)
    model, _ = alone(dense, data(), momentum(), lam=0.3)
    assert distance(result.weights[0], model.get_weights()) < 1e-5


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
@pytest.mark.parametrize("coupling", ["penalty", "decoupled"])
def test_every_metric_of_every_stack_is_in_its_place(stacks: set[int], coupling: str) -> None:
    """Several of one metric, an int among them; the penalty is that of lambda, or none."""
    result = l2keras.sweep(
        dense, LAMS, *data(), optimizer=momentum(), loss="mse", metrics=["mse", Errors(), "mae"],
        epochs=2, batch_size=11, coupling=coupling, verbose=0,
    )  # fmt: skip
    assert stacks == {0, 1}
    own = ["mse", "z_large", "a_largest", "mae"]
    assert list(result.history) == ["loss", *own, "data_loss", "penalty"]
    before = [np.sum(np.square(w)) for w in first_kernels()]
    for i, lam in enumerate(LAMS):
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


@BY_XLA
@pytest.mark.parametrize(
    ("size", "cores", "each"),
    [(1, 8, 1), (3, 2, 3), (4, 2, 2), (5, 2, 3), (32, 1, 32), (32, 2, 16), (32, 16, 2),
     (17, 8, 3), (31, 64, 3)],
)  # fmt: skip
def test_there_are_as_many_stacks_as_cores_and_at_least_two_members_in_each(
    monkeypatch: pytest.MonkeyPatch, size: int, cores: int, each: int
) -> None:
    """On a GPU there is one."""
    monkeypatch.setattr(memory, "cores", lambda: cores)
    monkeypatch.setattr(memory, "on_gpu", lambda: False)
    assert stacking.stack_size(dense(), size, [32]) == each
    monkeypatch.setattr(memory, "on_gpu", lambda: True)
    assert stacking.stack_size(dense(), size, [32]) == size


@pytest.mark.parametrize(
    ("build", "on_jax", "elsewhere"), [(dense, (32, 8), (32, 32)), (convolution, (4, 1), (32, 32))]
)
def test_what_is_not_compiled_by_xla_stays_in_one_stack(
    monkeypatch: pytest.MonkeyPatch, build: Any, on_jax: Any, elsewhere: Any
) -> None:
    """TensorFlow's and torch's operations use all cores. JAX's convolutions are not stacked."""
    monkeypatch.setattr(memory, "cores", lambda: 4)
    monkeypatch.setattr(memory, "on_gpu", lambda: False)
    most, why = stacking.most_at_once(build())
    found = most, stacking.stack_size(build(), most, [])
    assert found == (on_jax if BACKEND == "jax" else elsewhere)
    assert bool(why) == (most == 4)
    _, note = stacking.group_size(build(), momentum(), 5, BATCH, None)  # three, then two
    assert ("3 at once, each on a core" in note) == bool(why)
    _, note = stacking.group_size(build(), momentum(), 5, BATCH, 1)
    assert note.startswith("5 members, 1 at once, of ")


@pytest.mark.parametrize("cores", [1, 2])
def test_convolutions_are_trained_as_if_alone(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    """On JAX each is a stack of its own: two of three side by side, the third after them."""
    monkeypatch.setattr(memory, "cores", lambda: cores)
    x = np.random.default_rng(0).normal(size=(11, 4, 4, 1)).astype("float32")
    examples = x, x[:, 0, :2, 0]
    options: dict[str, Any] = {"epochs": 2, "batch_size": BATCH, "validation_data": examples}
    result = l2keras.sweep(
        convolution, LAMS[:3], *examples, optimizer=momentum(), loss="mse", metrics=["mae"],
        verbose=0, **options,
    )  # fmt: skip
    options.pop("batch_size")
    for i, lam in enumerate(LAMS[:3]):
        model, history = alone(
            convolution, examples, momentum(), lam=lam, metrics=["mae"], **options
        )
        assert distance(result.weights[i], model.get_weights()) < 1e-5
        assert np.allclose(result.history["val_mae"][i], history["val_mae"], rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("150000 100000", 2), ("9900000 100000", 8), (None, 8)]
)
def test_cores_are_those_that_the_process_may_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str | None, cores: int
) -> None:
    """Which taskset, or the quota of a container, may have made fewer."""
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert memory.cores() == cores
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert memory.cores() == cores


@ON_TENSORFLOW
def test_a_value_stands_in_for_a_variables_own() -> None:
    """Read and assigned in the block; its own is as it was."""
    import tensorflow as tf

    variable, other = keras.Variable(np.ones(2)), tf.Variable([3.0, 4.0])
    with standing_in([variable], [other]):
        assert to_numpy(keras.ops.convert_to_tensor(variable)).tolist() == [3.0, 4.0]
        variable.assign_add([1.0, 1.0])
    assert other.numpy().tolist() == [4.0, 5.0]
    assert to_numpy(variable).tolist() == [1.0, 1.0]
