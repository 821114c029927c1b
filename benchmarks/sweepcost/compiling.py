"""How long a sweep traces and compiles its programs, which it does however long it trains."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from l2keras._sweep import programs

MAKERS = {
    "tensorflow": (programs.TensorFlow, "_program"),
    "jax": (programs.Jax, "steps"),
    "torch": (programs.Torch, "_recorded"),
}


@contextmanager
def watched() -> Iterator[list[float]]:
    """The seconds of each program that is made in the block."""
    owner, name = MAKERS[keras.backend.backend()]
    make = getattr(owner, name)
    seconds: list[float] = []

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        made = make(*arguments)
        seconds.append(time.perf_counter() - start)
        return made

    setattr(owner, name, timed)
    try:
        yield seconds
    finally:
        setattr(owner, name, make)
