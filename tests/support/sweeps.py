"""What the tests of `sweep` share: small models, and each member trained alone by `fit`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable
from typing import Any

import keras
import numpy as np
import pytest
from keras import optimizers

import l2keras
from l2keras import masks
from l2keras._sweep import loops
from tests.support import factorial
from tests.support.models import BACKEND, Linear, mse

EXAMPLES = 11  # two batches of 4 and a remainder of 3
BATCH = 4
EPOCHS = 5
LAMS = (0.0, 0.1, 0.3, 0.6, 0.9)


@dataclasses.dataclass(frozen=True)
class Size:
    """The amount of training in a test that compares members with `fit`.

    Args:
        examples: Number of examples; BATCH of them are a batch.
        epochs: Number of epochs.
        lams: One lambda for each member.
        least: Minimal number of members in a stack.
    """

    examples: int
    epochs: int
    lams: tuple[float, ...]
    least: int


# Batches of one size, as a step is traced for each size; three, so that the accumulation of two
# gradients continues in the next epoch.
SMALL = Size(examples=3 * BATCH, epochs=2, lams=(0.0, 0.3, 0.9), least=1)
WHOLE = Size(examples=EXAMPLES, epochs=EPOCHS, lams=LAMS, least=2)
SIZE = WHOLE if factorial.FULL else SMALL


class Batches(keras.utils.PyDataset):
    """The batches that `sweep` promises for a seed, for `fit`."""

    def __init__(self, x: Any, y: Any, seed: int, batch_size: int = BATCH) -> None:
        super().__init__()
        self.x, self.y, self.seed, self.batch_size = x, y, seed, batch_size
        self.epoch = 0
        self.examples = len(keras.tree.flatten(y)[0])

    def __len__(self) -> int:
        return -(-self.examples // self.batch_size)

    def __getitem__(self, index: int) -> Any:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.examples)
        rows = order[index * self.batch_size : (index + 1) * self.batch_size]
        return keras.tree.map_structure(lambda array: array[rows], (self.x, self.y))

    def begin(self, epoch: int, logs: Any = None) -> None:
        """Keras calls a PyDataset's own `on_epoch_begin` once too often."""
        self.epoch = epoch


def alone(
    build: Callable[[], Any],
    data: tuple[Any, Any],
    optimizer: Any,
    *,
    lam: float,
    seed: int = 0,
    coupling: str = "penalty",
    loss: Any = "mse",
    metrics: Any = None,
    epochs: int = EPOCHS,
    include: Any = None,
    exclude: Any = None,
    validation_data: Any = None,
    callbacks: Any = (),
) -> Any:
    """The model and the history of one member that `fit` trains."""
    keras.utils.set_random_seed(seed)
    model = build()
    callbacks = list(callbacks)
    if coupling == "penalty" and lam:
        for variable in masks.select(model, include, exclude):
            variable.regularizer = l2keras.HalfL2(lam)
    elif lam:
        decay = l2keras.WeightDecay(lam, coupling=coupling, include=include, exclude=exclude)
        callbacks.append(decay)
    jit = "auto" if BACKEND == "jax" else False
    # How `fit` runs its steps is not what these tests are about; to trace them takes longer.
    eager = BACKEND == "tensorflow" and not factorial.FULL
    model.compile(optimizer, loss, metrics=metrics, jit_compile=jit, run_eagerly=eager)
    batches = Batches(*data, seed)
    callbacks.append(keras.callbacks.LambdaCallback(on_epoch_begin=batches.begin))
    history = model.fit(
        batches, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks,
        validation_data=validation_data, validation_batch_size=BATCH,
    )  # fmt: skip
    return model, history.history


@functools.cache
def _trained(
    build: Callable[[], Any],
    examples: Callable[[], Any],
    optimizer: Callable[[], Any],
    floatx: str,
    options: tuple[tuple[str, Any], ...],
) -> tuple[list[Any], Any]:
    values = dict(options)
    if values.pop("validated", False):
        values["validation_data"] = examples()
    if values.get("metrics"):
        values["metrics"] = list(values["metrics"])
    model, history = alone(build, examples(), optimizer(), **values)
    return model.get_weights(), history


def reference(
    build: Callable[[], Any],
    examples: Callable[[], Any],
    optimizer: Callable[[], Any],
    **options: Any,
) -> tuple[list[Any], Any]:
    """The weights and the history of one member that `fit` trains, once for all tests.

    Args:
        build: Returns the model.
        examples: Returns inputs and targets.
        optimizer: Returns the optimizer.
        options: Those of `alone`, all of them hashable. `validated=True` validates on `examples`.
    """
    return _trained(
        build, examples, optimizer, keras.config.floatx(), tuple(sorted(options.items()))
    )


def distance(actual: list[Any], expected: list[Any]) -> float:
    """The largest difference of two lists of weights, in units of 1 or of the weights' size."""
    assert [a.shape for a in actual] == [e.shape for e in expected]
    return max(
        float(np.max(np.abs(a - e)) / max(1.0, np.max(np.abs(e))))
        for a, e in zip(actual, expected, strict=True)
    )


def linear() -> Any:
    """A model that is float64 on every backend, see `Linear`."""
    layers = [
        keras.Input((3,)),
        Linear(4, activation="tanh", name="hidden"),
        Linear(2, name="head"),
    ]
    return keras.Sequential(layers, name="linear")


def data(
    shape: tuple[int, ...] = (3,), units: int = 2, examples: int = EXAMPLES
) -> tuple[Any, Any]:
    """Inputs and targets from a fixed seed, in floatx."""
    generator = np.random.default_rng(11)
    floatx = keras.config.floatx()
    x = generator.normal(size=(examples, *shape)).astype(floatx)
    return x, generator.normal(size=(examples, units)).astype(floatx)


def momentum() -> Any:
    return keras.optimizers.SGD(0.1, momentum=0.5)


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "SGD": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.5),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.5, nesterov=True),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.2),
    "loss scale": lambda: optimizers.SGD(0.1, loss_scale_factor=8.0),
    "average": lambda: optimizers.SGD(0.1, use_ema=True, ema_momentum=0.7),
    "overwritten by the average": lambda: optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=2
    ),
    "accumulation": lambda: optimizers.SGD(0.1, momentum=0.5, gradient_accumulation_steps=2),
    "Adam": lambda: optimizers.Adam(0.05),
    "amsgrad": lambda: optimizers.Adam(0.05, amsgrad=True),
    "AdamW": lambda: optimizers.AdamW(0.05, weight_decay=0.0),
    "Adamax": lambda: optimizers.Adamax(0.05),
    "Nadam": lambda: optimizers.Nadam(0.05),
    "RMSprop": lambda: optimizers.RMSprop(0.05),
    "centered": lambda: optimizers.RMSprop(0.05, momentum=0.5, centered=True),
    "Adagrad": lambda: optimizers.Adagrad(0.1),
    "Adadelta": lambda: optimizers.Adadelta(1.0),
    "Ftrl": lambda: optimizers.Ftrl(0.1),
    "Lion": lambda: optimizers.Lion(0.02),
}


def compare_with_fit(
    build: Callable[[], Any], examples: tuple[Any, Any], tolerance: float, *, whole: bool
) -> None:
    """Compares the member of the larger lam and the second seed with `fit`: weights and metrics.

    Args:
        build: Returns the model.
        examples: Inputs and targets.
        tolerance: The largest distance of the weights.
        whole: Whether the last batch is a smaller one, and whether there is validation, which
            `sweep` and `fit` have to trace, too. Otherwise four full batches are trained on.
    """
    lams, seeds = (0.0, 0.6), (0, 1)
    options: dict[str, Any] = {"loss": mse, "metrics": ["mae"], "epochs": EPOCHS if whole else 2}
    names = ["loss", "mae"]
    if whole:
        options["validation_data"] = examples
        names += ["val_loss", "val_mae"]
    else:
        examples = keras.tree.map_structure(lambda array: array[: 2 * BATCH], examples)
    result = l2keras.sweep(
        build, lams, *examples, optimizer=momentum(), batch_size=BATCH, seeds=seeds, verbose=0,
        **options,
    )  # fmt: skip
    model, history = alone(build, examples, momentum(), lam=lams[1], seed=seeds[1], **options)
    member = result.members[3]
    assert (member.lam, member.seed) == (lams[1], seeds[1])
    weights = model.get_weights()
    assert distance(result.weights[3], weights) < tolerance
    assert distance(result.weights[1], weights) > 0.01  # lam = 0: doing nothing would fail
    assert distance(result.weights[2], weights) > 0.01  # the other seed
    # Keras' metrics are float32 on torch
    for name in names:
        assert result.history[name][3] == pytest.approx(
            history[name], rel=max(10 * tolerance, 1e-6)
        )


def layer_cases(
    models: Iterable[str],
    single: Collection[str],
    *,
    full: bool,
    whole: Collection[tuple[str, str]] = (),
) -> list[tuple[str, str, bool]]:
    """Returns (name of a model, dtype, whether it is compared as a whole, see above).

    Args:
        models: The names of all models.
        single: Those that are computed in float32, whatever Keras is set to.
        full: Whether every model is to be compared as a whole, in float32 and in float64.
            Otherwise each is compared in float64 where it can be.
        whole: The names and dtypes that are compared as a whole in any case.
    """
    cases = []
    for name in models:
        dtypes = ["float32"] if name in single else ["float32", "float64"]
        for dtype in dtypes:
            as_a_whole = full or (name, dtype) in whole
            if as_a_whole or dtype == dtypes[-1]:
                cases.append((name, dtype, as_a_whole))
    return cases


def sized_data() -> tuple[Any, Any]:
    """As many of them as the tier trains on."""
    return data(examples=SIZE.examples)


def swept(lam: Any = LAMS, **options: Any) -> Any:
    """`linear` on `data`, by `sweep`."""
    settings: dict[str, Any] = {"epochs": EPOCHS, "batch_size": BATCH, "verbose": 0, "loss": mse}
    settings |= {"optimizer": keras.optimizers.SGD(0.1, momentum=0.5), **options}
    return l2keras.sweep(linear, lam, *data(), **settings)


def expected(lam: float, **options: Any) -> Any:
    """A member of the same by `fit`: the model and its history."""
    optimizer = keras.optimizers.SGD(options.pop("learning_rate", 0.1), momentum=0.5)
    return alone(linear, data(), optimizer, lam=lam, loss=mse, **options)


# Tests of stacks that run side by side.
BY_XLA = pytest.mark.skipif(BACKEND == "torch", reason="torch has no XLA, and one stack")


def dense() -> Any:
    """A model of layers that XLA compiles well."""
    layers = keras.layers
    return keras.Sequential([keras.Input((3,)), layers.Dense(8, "relu"), layers.Dense(2)])


def watch(monkeypatch: pytest.MonkeyPatch, call: Callable[..., None]) -> None:
    """Has `call(loop, steps, variables, indices)` run for `steps(variables, indices)`."""
    compiled = loops.Loop._steps

    def steps(self: Any, shape: Any) -> Any:
        return functools.partial(call, self, compiled(self, shape))

    monkeypatch.setattr(loops.Loop, "_steps", steps)
