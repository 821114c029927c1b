"""Keras' torch backend, for the time that torch.func.vmap runs its layers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras


@contextmanager
def adapted() -> Iterator[None]:
    """Inside the block Keras' layers do without what has no form over stacked tensors.

    A `torch.Generator` is seeded with a Python number, and the seeds of stacked members are one
    tensor: seeded layers draw from torch's own generator, as Keras has it on the device "meta".
    A memory format is a hint for speed. Attention is the plain formula, not a fused kernel. L1L2
    adds in place, stacked penalties to one that is not stacked: it does so anew.
    """
    import torch

    random: Any = importlib.import_module("keras.src.backend.torch.random")
    layers: Any = importlib.import_module("keras.src.backend.torch.nn")
    kept = random.torch_seed_generator, layers._maybe_convert_to_channels_last
    kept_penalty = keras.regularizers.L1L2.__call__

    def without_generator(seed: Any) -> None:
        random.draw_seed(seed)  # the state of the seed goes on as in `fit`

    random.torch_seed_generator = without_generator
    layers._maybe_convert_to_channels_last = lambda tensor: tensor
    keras.regularizers.L1L2.__call__ = _l1_l2
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        random.torch_seed_generator, layers._maybe_convert_to_channels_last = kept
        keras.regularizers.L1L2.__call__ = kept_penalty


def _l1_l2(regularizer: Any, x: Any) -> Any:
    absolute, squares = (keras.ops.sum(of(x)) for of in (keras.ops.absolute, keras.ops.square))
    return regularizer.l1 * absolute + regularizer.l2 * squares
