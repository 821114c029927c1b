"""The typed configuration: every key, its type, its default, one line of help.

Imports neither Keras nor MLflow, so that a mistake is answered before they load.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, get_type_hints

LARGEST = 2**31 - 1  # of whole numbers
LARGEST_FLOAT = (2 - 2**-23) * 2.0**127  # of float32
LONGEST_NAME = 200  # bytes of a study's name, which becomes a folder's with something added


class Device(Enum):
    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Backend(Enum):
    tensorflow = "tensorflow"
    jax = "jax"
    torch = "torch"


class Rerun(Enum):
    failed = "failed"
    all = "all"
    none = "none"


class Distribute(Enum):
    auto = "auto"
    mirrored = "mirrored"
    none = "none"


class Schedule(Enum):
    constant = "constant"
    cosine = "cosine"


class Activation(Enum):
    linear = "linear"
    relu = "relu"
    elu = "elu"
    gelu = "gelu"
    silu = "silu"
    sigmoid = "sigmoid"
    tanh = "tanh"


class MixedPrecision(Enum):
    none = "none"
    float16 = "float16"
    bfloat16 = "bfloat16"


class Dtype(Enum):
    float32 = "float32"
    float64 = "float64"


def _key(default: Any, help: str) -> Any:
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass
class DataConfig:
    name: str = _key("digits", "dataset, see the options of the group")
    num_train: int | None = _key(None, "training examples to keep; null for all")
    label_noise: float = _key(0.0, "fraction of the training labels redrawn at random")
    num_features: int = _key(20, "inputs of the teacher_student regression")
    target_noise: float = _key(0.5, "standard deviation of the teacher_student target noise")


@dataclass
class ModelConfig:
    name: str = _key("mlp", "architecture, see the options of the group")
    width: int = _key(128, "units or channels of a hidden layer")
    depth: int = _key(2, "hidden layers or blocks")
    activation: Activation = _key(Activation.relu, "of the hidden layers, by its Keras name")
    dropout: float = _key(0.0, "dropout rate after each hidden layer or block")


@dataclass
class OptimizerConfig:
    name: str = _key("sgd", "sgd (with or without momentum) or adam")
    learning_rate: float = _key(0.2, "eta; the peak of the schedule")
    momentum: float = _key(0.0, "momentum of sgd")
    nesterov: bool = _key(False, "Nesterov momentum, sgd only")
    schedule: Schedule = _key(Schedule.constant, "constant or cosine (to zero)")
    warmup_fraction: float = _key(0.0, "fraction of the steps spent warming up linearly from zero")
    clipnorm: float | None = _key(None, "clip each gradient to this norm")
    global_clipnorm: float | None = _key(None, "clip all gradients to this joint norm")


@dataclass
class RegularizationConfig:
    name: str = _key("none", "method, see the options of the group")
    lam: float = _key(0.0, "lambda; builtin_l2 pastes it as keras.regularizers.L2(lam)")
    decay_all: bool = _key(False, "decay biases and norms too; for the forms of WeightDecay")


@dataclass
class TrainingConfig:
    epochs: int = _key(60, "passes over the training data")
    batch_size: int = _key(32, "examples in a step")
    jit: bool = _key(False, "compile the step with XLA (torch: torch.compile)")
    mixed_precision: MixedPrecision = _key(
        MixedPrecision.none, "none, float16 (scales the loss) or bfloat16"
    )
    dtype: Dtype = _key(Dtype.float32, "of weights and data: float32 or float64")
    steps_per_execution: int = _key(1, "steps run in one call of the compiled function")
    gradient_accumulation_steps: int = _key(1, "batches averaged into one update")
    progress: bool = _key(True, "show a progress bar")


@dataclass
class TrackingConfig:
    uri: str | None = _key(
        None,
        "MLflow store; null: $MLFLOW_TRACKING_URI, where a password belongs, else sqlite in runs/",
    )
    study: str = _key("l2keras", "name of the MLflow experiment")
    log_model: bool = _key(True, "keep the trained model as a .keras artifact")
    parent: str | None = _key(None, "id of the run to hang under; a sweep sets it")


@dataclass
class Config:
    """One run of `experiments.train`."""

    seed: int = _key(0, "of the initial weights, the label noise and the order of the batches")
    device: Device = _key(Device.auto, "auto (every visible GPU, else CPU), cpu or gpu")
    backend: Backend | None = _key(None, "tensorflow, jax or torch; null: $KERAS_BACKEND")
    distribute: Distribute = _key(
        Distribute.auto,
        "auto (every visible GPU, if several), mirrored (TensorFlow; also logical CPUs) or none",
    )
    rerun: Rerun = _key(
        Rerun.failed, "of runs recorded already: failed (goes on with them), all (anew), none"
    )
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    regularization: RegularizationConfig = field(default_factory=RegularizationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass
class ComparisonConfig:
    lams: list[float] = _key(
        [0.0025, 0.005, 0.01, 0.02, 0.04], "grid of lambda; steps of two show the factor of two"
    )
    arms: list[str] = _key(
        ["none", "builtin_l2", "builtin_half", "half_l2", "decoupled", "coupled",
         "optimizer_weight_decay"],
        "methods to train; half_l2 is the reference and always trained",
    )  # fmt: skip


@dataclass
class CompareConfig(Config):
    """One comparison of `experiments.compare`."""

    compare: ComparisonConfig = field(default_factory=ComparisonConfig)


@dataclass
class TuningConfig:
    num_trials: int = _key(30, "trials in all, those of an earlier launch included")
    lam: list[float] = _key([1e-5, 1.0], "lowest and highest lambda, searched on a log scale")
    learning_rate: list[float] | None = _key(
        None, "lowest and highest learning rate, log scale; null: as in optimizer"
    )
    num_seeds: int = _key(1, "runs in a trial: seed, seed+1, ...; their mean is its value")
    pruning: bool = _key(True, "stop a trial that is worse than the median at its epoch")
    warmup_epochs: int = _key(5, "epochs of a trial before it may be pruned")
    timeout: float | None = _key(None, "seconds after which no further trial starts; null: none")
    storage: str | None = _key(
        None,
        "URL of optuna's database, such as postgresql+psycopg2://user@host/database; "
        "null: optuna.db beside a sqlite store, else in runs/",
    )
    preset: str | None = _key(
        None, "name of the preset to write; null: tuned_<data>_<model>_<method>_<optimizer>"
    )


@dataclass
class TuneConfig(Config):
    """One study of `experiments.tune`."""

    tune: TuningConfig = field(default_factory=TuningConfig)


class ConfigError(ValueError):
    """A mistake in the configuration; the message is one line for the user."""


def keys(schema: type, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """Every leaf key of `schema` with its dataclass field and its type, in order."""
    types = get_type_hints(schema)
    for item in fields(schema):
        kind = types[item.name]
        if is_dataclass(kind):
            yield from keys(kind, f"{prefix}{item.name}.")  # type: ignore[arg-type]  # a class
        else:
            yield f"{prefix}{item.name}", item, kind


def value(config: Config, key: str) -> Any:
    """The value of a dotted key; the word for one of an Enum."""
    found = functools.reduce(getattr, key.split("."), config)
    return getattr(found, "value", found)


def varying(configs: Sequence[Config]) -> dict[str, list[Any]]:
    """The keys that are not the same in all `configs`, with their values in order of appearance."""
    found = {key: list(dict.fromkeys(value(c, key) for c in configs)) for key in _run_keys()}
    return {key: values for key, values in found.items() if len(values) > 1}


@functools.cache
def _run_keys() -> tuple[str, ...]:
    return tuple(key for key, _, _ in keys(Config))


def run_label(config: Config) -> str:
    """What tells a run from its neighbours, for people."""
    name, lam = config.regularization.name, config.regularization.lam
    return f"{name} lam={lam:g} eta={config.optimizer.learning_rate:g} seed={config.seed}"


def check(config: Config) -> None:
    """Raises ConfigError for a value that no run could use.

    Shapes and names that depend on the data are checked where they are used.
    """
    _check_every_key(config)
    positive = {
        "optimizer.learning_rate": config.optimizer.learning_rate,
        "training.epochs": config.training.epochs,
        "training.batch_size": config.training.batch_size,
        "training.steps_per_execution": config.training.steps_per_execution,
        "training.gradient_accumulation_steps": config.training.gradient_accumulation_steps,
        "model.width": config.model.width,
        "model.depth": config.model.depth,
    }
    for key, value in positive.items():
        if not 0 < value <= LARGEST_FLOAT:
            raise ConfigError(
                f"`{key}` must be positive and finite in float32. Received: {key}={value}."
            )
    _check_names(config)
    if not 0 <= config.model.dropout < 1:
        raise ConfigError(
            f"`model.dropout` must be in [0, 1). Received: model.dropout={config.model.dropout}."
        )
    lams = {"regularization.lam": [config.regularization.lam]}
    if isinstance(config, CompareConfig):
        lams["compare.lams"] = config.compare.lams
    for key, values in lams.items():
        if not all(0 <= lam <= LARGEST_FLOAT for lam in values):
            raise ConfigError(
                f"`{key}` must be finite in float32 and >= 0. Received: {key}={values}."
            )
    if config.training.dtype is Dtype.float64 and config.training.mixed_precision.value != "none":
        raise ConfigError(
            "`training.mixed_precision` needs float32 weights. "
            f"Received: training.dtype=float64, training.mixed_precision="
            f"{config.training.mixed_precision.value}. Leave one of them out."
        )


def _check_names(config: Config) -> None:
    if not 0 <= config.seed < 2**32:
        raise ConfigError(f"`seed` must be from 0 to 2**32 - 1. Received: seed={config.seed}.")
    if not config.tracking.study.strip():
        raise ConfigError("`tracking.study` must be a name. Received: an empty one.")
    if len(config.tracking.study.encode()) > LONGEST_NAME:
        raise ConfigError(
            f"`tracking.study` must have at most {LONGEST_NAME} bytes, as it names a folder. "
            f"Received: {len(config.tracking.study.encode())} bytes. Choose a shorter name."
        )
    if config.tracking.parent is not None:
        check_run_id("tracking.parent", config.tracking.parent)


def check_run_id(key: str, run_id: str) -> None:
    """Raises ConfigError for what can be no id of an MLflow run."""
    if not re.fullmatch(r"[A-Za-z0-9][\w-]{0,255}", run_id):
        raise ConfigError(
            f"`{key}` must be the id of an MLflow run: letters, digits, - and _. "
            f"Received: {run_id}. The MLflow UI shows it on the page of the run."
        )


def _check_every_key(config: Config) -> None:
    """Raises ConfigError for whole numbers and texts that nothing behind the config can hold."""
    for key, _, _ in keys(type(config)):
        found = value(config, key)
        if isinstance(found, int) and abs(found) > LARGEST and key != "seed":
            raise ConfigError(
                f"`{key}` must be at most {LARGEST}. Received: {key}={found}. Choose a smaller one."
            )
        if isinstance(found, str):
            check_text(f"`{key}`", found)


def check_text(what: str, text: str) -> None:
    """Raises ConfigError for what no file name, database or page can hold."""
    if not text.isprintable() and any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        raise ConfigError(
            f"{what} must be text in UTF-8 without control characters. Received: {text!r}. "
            "Write it again."
        )
