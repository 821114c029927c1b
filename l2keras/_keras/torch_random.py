"""Random numbers of Keras' torch backend where torch.func.vmap cannot seed a generator."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def unseeded() -> Iterator[None]:
    """Inside the block Keras' seeded layers draw from torch's own generator.

    A `torch.Generator` is seeded with a Python number, and the seeds of members that are trained
    at once are one tensor. Keras itself goes without a generator on the device "meta".
    """
    module: Any = importlib.import_module("keras.src.backend.torch.random")
    own = module.torch_seed_generator

    def without(seed: Any) -> None:
        module.draw_seed(seed)  # the state of the seed goes on as in `fit`

    module.torch_seed_generator = without
    try:
        yield
    finally:
        module.torch_seed_generator = own
