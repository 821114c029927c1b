"""What the choice of a device does to the process."""

from __future__ import annotations

import gc

import pytest

from l2keras_experiments.config.schema import Backend, Config, ConfigError, Distribute
from l2keras_experiments.runtime import device


def test_the_collector_is_spared_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded before the first block and in it is frozen; what later jobs leave is not."""
    happened: list[str] = []
    monkeypatch.setattr(device, "_is_spared", False)
    monkeypatch.setattr(gc, "freeze", lambda: happened.append("freeze"))
    for job in ("first", "second"):
        with device.spare_collector():
            happened.append(job)
    assert happened == ["freeze", "first", "freeze", "second"]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_mirrored_is_tensorflows(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """distribute=mirrored on another backend raises, before that backend is loaded."""
    monkeypatch.setenv("KERAS_BACKEND", backend)
    config = Config(backend=Backend(backend), distribute=Distribute.mirrored)
    with pytest.raises(ConfigError, match=f"TensorFlow's. Received: backend={backend}"):
        device.set_up(config)
