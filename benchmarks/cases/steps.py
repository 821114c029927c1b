"""The training steps of `fit`, called one by one outside of it.

One `fit` of one batch makes `model.train_function`, with the decay in it. The steps then call it
on the same batch. On JAX, which computes in the background, they wait for the last result.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras

from benchmarks.cases.models import Case
from benchmarks.cases.variants import VARIANTS
from benchmarks.kit.timing import Turn, once

MODES = {
    "tensorflow": ("graph", "jit", "eager"),
    "jax": ("jit", "eager"),
    "torch": ("eager", "jit"),
}


def steps_of(case: Case, name: str, mode: str) -> Turn:
    """Returns the steps of a variant on a model of its own."""
    keras.utils.set_random_seed(0)
    variant = VARIANTS[name]()
    model = case.build(variant.regularizer)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(variant.optimizer(), loss, jit_compile=mode == "jit", run_eagerly=mode == "eager")
    on_backend = {"tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch}
    return on_backend[keras.backend.backend()](model, variant.callbacks, *case.batch(model))


def _on_tensorflow(model: Any, callbacks: tuple[Any, ...], x: Any, y: Any) -> Turn:
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    data = tf.data.Dataset.from_tensors((x, y)).repeat().with_options(options)
    function = train_function(model, callbacks, data, steps_per_epoch=1)
    iterator = iter(data)
    return once(lambda: function(iterator))


def _on_jax(model: Any, callbacks: tuple[Any, ...], x: Any, y: Any) -> Turn:
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


def _on_torch(model: Any, callbacks: tuple[Any, ...], x: Any, y: Any) -> Turn:
    import torch._dynamo

    # By default torch.compile stops compiling a function after eight models.
    torch._dynamo.config.recompile_limit = 1000
    torch._dynamo.config.accumulated_recompile_limit = 1000
    function = train_function(model, callbacks, x, y, batch_size=len(x))
    batch = [tuple(keras.ops.convert_to_tensor(array) for array in (x, y))]
    model.train()  # `fit` leaves it in inference mode
    return once(lambda: function(batch))


def train_function(model: Any, callbacks: Sequence[Any], *data: Any, **settings: Any) -> Any:
    """Returns the function that `fit` calls for each batch, with the decay of the callbacks."""
    functions = []
    spy = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: functions.append(model.train_function)
    )
    model.fit(*data, shuffle=False, verbose=0, callbacks=[*callbacks, spy], **settings)
    return functions[-1]
