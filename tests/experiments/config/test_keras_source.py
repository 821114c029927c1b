"""What is read from the source of Keras is what Keras takes."""

from __future__ import annotations

import subprocess
import sys

import keras
import pytest

from l2keras_experiments.config import keras_source
from l2keras_experiments.config.schema import ConfigError


@pytest.mark.parametrize("kind", ["losses", "metrics"])
def test_the_names_are_those_of_keras(kind: str) -> None:
    """All of them and no other, in this version of Keras."""
    module = getattr(keras.src, kind)
    assert keras_source.names(kind) == set(module.ALL_OBJECTS_DICT)
    for name in keras_source.names(kind):
        keras_source.check_name("training.x", kind, name)


def test_accuracy_is_a_name_that_compile_knows() -> None:
    for name in ("accuracy", "acc", "Accuracy", "ACC"):
        keras_source.check_name("training.metrics.0", "metrics", name)


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("losses", "mean_squared", "Did you mean mean_squared_error?"),
        ("losses", "MeanSquaredEror", "Did you mean MeanSquaredError?"),
        ("losses", "accuracy", "The names are at keras.io/api/losses."),
        ("metrics", "acuracy", "Did you mean accuracy?"),
    ],
)
def test_the_nearest_name_is_written_as_what_came(kind: str, name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        keras_source.check_name("training.x", kind, name)
    assert str(error.value).endswith(f"Received: training.x={name}. {hint}")


def test_keras_is_not_imported() -> None:
    code = (
        "import sys; from l2keras_experiments.config import keras_source as source;"
        "assert 'mse' in source.names('losses') and 'keras' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
