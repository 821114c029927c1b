"""Training steps as `fit` runs them, taken one by one outside of it.

One `fit` of one batch hands out `model.train_function`, traced and with the decay in it; it is
then called on the same batch over and over. What a step leaves to run in the background (JAX) is
waited for before the time is taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from benchmarks.stepcost.models import Case
from benchmarks.stepcost.variants import VARIANTS

Steps = Callable[[int], None]  # takes so many steps, and returns when they are done

MODES = {
    "tensorflow": ("graph", "jit", "eager"),
    "jax": ("jit", "eager"),
    "torch": ("eager", "jit"),
}


def steps_of(case: Case, name: str, mode: str) -> Steps:
    """The steps of a variant on a model of its own."""
    keras.utils.set_random_seed(0)
    variant = VARIANTS[name]()
    model = case.build(variant.regularizer)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(variant.optimizer(), loss, jit_compile=mode == "jit", run_eagerly=mode == "eager")
    if keras.backend.backend() == "torch" and mode == "jit":
        _compile_without_limit()
    taken_by = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}
    return taken_by[keras.backend.backend()](model, variant.callbacks, *case.batch(model))


def _on_tensorflow(model: Any, callbacks: tuple[Any, ...], x: Any, y: Any) -> Steps:
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    data = tf.data.Dataset.from_tensors((x, y)).repeat().with_options(options)
    function = train_function(model, callbacks, data, steps_per_epoch=1)
    iterator = iter(data)

    def take(number: int) -> None:
        for _ in range(number):
            function(iterator)

    return take


def _on_jax(model: Any, callbacks: tuple[Any, ...], x: Any, y: Any) -> Steps:
    import jax

    function = train_function(model, callbacks, x, y, batch_size=len(x))
    batches = itertools.repeat((jax.device_put(x), jax.device_put(y)))
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([variable.value for variable in group] for group in groups)

    def take(number: int) -> None:
        nonlocal state
        for _ in range(number):
            _, state = function(state, batches)
        jax.block_until_ready(state)

    return take


def _on_torch(model: Any, callbacks: tuple[Any, ...], x: Any, y: Any) -> Steps:
    function = train_function(model, callbacks, x, y, batch_size=len(x))
    batch = [tuple(keras.ops.convert_to_tensor(array) for array in (x, y))]
    model.train()  # `fit` has left it in the mode for inference

    def take(number: int) -> None:
        for _ in range(number):
            function(batch)

    return take


def _compile_without_limit() -> None:
    """torch.compile gives a function up that it has compiled for eight models."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = 1000
    torch._dynamo.config.accumulated_recompile_limit = 1000


def train_function(model: Any, callbacks: Sequence[Any], *data: Any, **settings: Any) -> Any:
    """What `fit` calls for every batch; it is caught while a WeightDecay has it installed."""
    caught = []
    catch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: caught.append(model.train_function)
    )
    model.fit(*data, shuffle=False, verbose=0, callbacks=[*callbacks, catch], **settings)
    return caught[-1]
