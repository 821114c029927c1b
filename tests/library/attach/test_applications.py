"""attach on models of keras.applications: every kernel, in the model and in its copies."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from l2keras import HalfL2, attach, detach
from tests.support import factorial
from tests.support.attachments import LAM, half_squares, penalty, regularized
from tests.support.models import BACKEND


@pytest.mark.parametrize(
    "name",
    factorial.sample(["MobileNetV2", "EfficientNetB0", "ConvNeXtTiny"], 1),
)
def test_keras_applications(name: str) -> None:
    """Every kernel, depthwise ones included, in the model and in its copy; and off again."""
    if BACKEND == "jax" and name != "MobileNetV2":
        pytest.skip("JAX takes 20 s to build it, and nothing in it depends on the backend")
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(32, 32, 3), classes=3)
    expected = [v.path for v in model.trainable_weights if v.path.endswith("kernel")]
    attachment = attach(model, HalfL2(LAM))
    assert [change.path for change in attachment.changes] == expected
    assert attachment.persistent
    clone = type(model).from_config(model.get_config())
    assert regularized(clone) == regularized(model) == [("kernel", LAM)] * len(expected)
    detach(model)
    assert not model.losses
    assert "HalfL2" not in str(model.get_config())


@pytest.mark.skipif(BACKEND != "tensorflow", reason="Saving depends on no backend, and takes 5 s")
def test_a_model_of_keras_applications_survives_saving(tmp_path: Path) -> None:
    """Loaded from a .keras file it has every HalfL2 and the penalty of its own weights."""
    model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), classes=3)
    attach(model, HalfL2(LAM))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    kernels = [v.path for v in loaded.trainable_weights if v.path.endswith("kernel")]
    assert [v.path for v in loaded.weights if v.regularizer is not None] == kernels
    assert len(kernels) == 53  # 52 convolutions and the classifier
    assert penalty(loaded) == pytest.approx(LAM * half_squares(loaded, "kernel"), rel=1e-4)
    assert penalty(loaded) == pytest.approx(penalty(model), rel=1e-6)
