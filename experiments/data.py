"""Datasets as NumPy arrays, by name. Knows neither Keras layers nor MLflow.

`check_data_config` imports nothing heavy, so that it can answer before TensorFlow is imported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from experiments.schema import ConfigError, DataConfig
from experiments.sources import SOURCES, Array, stratified_order

TEACHER_STUDENT = "teacher_student"
TEACHER_TRAIN = 10_000  # "all" of a set that has no end
TEACHER_TEST = 1_000


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test arrays, and what a model has to know to fit them.

    Attributes:
        name: The option of the group `data`.
        x_train, x_test: Images (n, height, width, channels) in [0, 1], features (n, d), or
            int32 tokens (n, length).
        y_train, y_test: int32 classes (n,), or targets (n, 1) for regression.
        task: "classification" or "regression".
        kind: What the inputs are: "image", "features" or "tokens".
        num_outputs: Classes, or targets of a regression.
        vocabulary_size: Count of distinct tokens; 0 where the inputs are not tokens.
    """

    name: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    task: str
    kind: str
    num_outputs: int
    vocabulary_size: int = 0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.x_train.shape[1:])


def check_data_config(config: DataConfig) -> None:
    """Raises ConfigError, a ValueError, for what is wrong whatever the data hold."""
    names = sorted([*SOURCES, TEACHER_STUDENT])
    if config.name not in names:
        raise ConfigError(f"`data.name` must be one of {names}. Received: {config.name!r}.")
    if not 0.0 <= config.label_noise <= 1.0:
        raise ConfigError(
            "`data.label_noise` must be a fraction from 0 to 1. "
            f"Received: data.label_noise={config.label_noise}. For clean labels pass 0."
        )
    if config.num_train is not None and config.num_train < 1:
        raise ConfigError(
            "`data.num_train` must be at least 1. "
            f"Received: data.num_train={config.num_train}. For all examples pass null."
        )
    if config.name == TEACHER_STUDENT:
        _check_teacher_student(config)
    else:
        _check_num_train(config, SOURCES[config.name].num_train)


def _check_teacher_student(config: DataConfig) -> None:
    if config.label_noise:
        raise ConfigError(
            "`data.label_noise` redraws classes, which a regression does not have. Received: "
            f"data.label_noise={config.label_noise} with data.name={config.name}. "
            "Set data.target_noise instead."
        )
    if not (math.isfinite(config.target_noise) and config.target_noise >= 0):
        raise ConfigError(
            "`data.target_noise` must be a finite, non-negative standard deviation. Received: "
            f"data.target_noise={config.target_noise}. For exact targets pass 0."
        )
    if config.num_features < 1:
        raise ConfigError(
            "`data.num_features` must be at least 1. "
            f"Received: data.num_features={config.num_features}. The default is 20."
        )


def _check_num_train(config: DataConfig, available: int) -> None:
    if config.num_train is not None and config.num_train > available:
        raise ConfigError(
            f"`data.num_train` must be at most {available}, all there is in {config.name}. "
            f"Received: data.num_train={config.num_train}. For all of them pass null."
        )


def input_kind(name: str) -> str:
    """What the inputs of a dataset are, before it is loaded: `Dataset.kind`."""
    if name == TEACHER_STUDENT:
        return "features"
    return "tokens" if SOURCES[name].vocabulary_size else "image"


def load_data(config: DataConfig, seed: int, dtype: str) -> Dataset:
    """The dataset that `config` names.

    Args:
        config: `num_train` keeps the first of a fixed order in which every beginning holds the
            classes in proportion, so that a smaller set is part of a larger one.
        seed: Decides the redrawn labels, and all of teacher_student. Never the test split.
        dtype: Of images, features and regression targets: "float32" or "float64".

    Raises:
        ConfigError: a value of `config` that the dataset cannot follow.
        FileNotFoundError: a set of keras.datasets that is neither cached nor downloadable.
    """
    check_data_config(config)
    if config.name == TEACHER_STUDENT:
        return _teacher_student(config, seed, dtype)
    return _classification(config, seed, dtype)


def _classification(config: DataConfig, seed: int, dtype: str) -> Dataset:
    source = SOURCES[config.name]
    (x_train, y_train), (x_test, y_test) = source.load()
    _check_num_train(config, len(x_train))
    y_train, y_test = y_train.reshape(-1).astype("int32"), y_test.reshape(-1).astype("int32")
    kept = stratified_order(y_train)[: config.num_train]

    def as_input(x: Array) -> Array:
        return x.astype("int32") if source.vocabulary_size else x.astype(dtype) / source.white

    return Dataset(
        name=config.name,
        x_train=as_input(x_train[kept]),
        y_train=redraw_labels(y_train[kept], config.label_noise, source.num_classes, seed),
        x_test=as_input(x_test),
        y_test=y_test,
        task="classification",
        kind=input_kind(config.name),
        num_outputs=source.num_classes,
        vocabulary_size=source.vocabulary_size,
    )


def redraw_labels(labels: Array, fraction: float, num_classes: int, seed: int) -> Array:
    """Redraws round(fraction * n) labels, uniformly over all classes, the true one included."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(labels), size=round(fraction * len(labels)), replace=False)
    noisy = labels.copy()
    noisy[chosen] = rng.integers(num_classes, size=len(chosen))
    return noisy


def _teacher_student(config: DataConfig, seed: int, dtype: str) -> Dataset:
    """A linear teacher w, seen through noise in training only.

        y = x . w + target_noise * e        x, e and sqrt(d) * w standard normal

    so that the targets have variance 1 + target_noise**2 on average over teachers.
    """
    teacher, inputs, noise, test = np.random.default_rng(seed).spawn(4)
    w = teacher.standard_normal((config.num_features, 1)) / math.sqrt(config.num_features)
    x_train = inputs.standard_normal((config.num_train or TEACHER_TRAIN, config.num_features))
    y_train = x_train @ w + config.target_noise * noise.standard_normal((len(x_train), 1))
    x_test = test.standard_normal((TEACHER_TEST, config.num_features))
    return Dataset(
        name=config.name,
        x_train=x_train.astype(dtype),
        y_train=y_train.astype(dtype),
        x_test=x_test.astype(dtype),
        y_test=(x_test @ w).astype(dtype),
        task="regression",
        kind=input_kind(config.name),
        num_outputs=1,
    )
