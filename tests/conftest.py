"""Fixtures for every backend. The backend is KERAS_BACKEND's; `make test` runs all three."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_ENABLE_X64", "1")  # "equal" is proved in float64

import keras
import pytest

BACKEND = keras.backend.backend()


@pytest.fixture(autouse=True, scope="session")
def _hear_ctrl_c() -> None:
    """What a shell starts in the background ignores Ctrl-C, which some tests press."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _record_steps_early() -> None:
    """On torch the short trainings of tests take both kinds of `sweep`'s steps."""
    from l2keras._sweep import programs

    programs.RECORDED_AFTER = 4


@pytest.fixture(autouse=True)
def _fresh_keras_state() -> Iterator[None]:
    """Every test starts from the same seed, float32, and names counted from zero."""
    keras.utils.clear_session(free_memory=False)  # a full gc takes 0.3 s
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def float64() -> None:
    """Layers, optimizers and losses in float64; `_fresh_keras_state` sets float32 again."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


@pytest.fixture(scope="session")
def backend() -> Any:
    return BACKEND


@pytest.fixture
def clusters(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What became of every update that was to be a cluster: "compiled" or "plain"."""
    from l2keras._keras import cluster

    found: list[str] = []
    find_obstacle = cluster.find_obstacle

    def watched(*args: Any, **options: Any) -> str | None:
        obstacle = find_obstacle(*args, **options)
        found.append("plain" if obstacle else "compiled")
        return obstacle

    monkeypatch.setattr(cluster, "find_obstacle", watched)
    return found


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Two cores, everything compiled; the numbers of the stacks that are trained in threads."""
    from l2keras._sweep import memory, stacking
    from tests.sweeps import watch

    monkeypatch.setattr(stacking, "BYTES_THAT_PAY", 0)
    monkeypatch.setattr(stacking, "LEAST", 2)
    monkeypatch.setattr(memory, "cores", lambda: 2)
    found: set[int] = set()

    def noting(self: Any, steps: Any, variables: Any, indices: Any) -> None:
        if threading.current_thread().name.startswith("l2keras-sweep"):
            found.update(i for i, own in enumerate(self._stacks) if own is variables)
        steps(variables, indices)

    watch(monkeypatch, noting)
    return found
