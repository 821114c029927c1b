"""The typed configuration: every key, its type, its default, one line of help.

Imports neither Keras nor MLflow, so that a mistake is answered before they load.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any, get_type_hints

from l2keras_experiments.config import methods

LARGEST = 2**31 - 1  # of whole numbers
LARGEST_FLOAT = (2 - 2**-23) * 2.0**127  # of float32
LONGEST_VALUE = 24  # letters of the value of a key in a label
# The keys that every label has.
_NAMED = {"regularization.name", "regularization.lam", "optimizer.learning_rate", "seed"}
LONGEST_NAME = 200  # bytes of a study's name, which becomes a folder's with something added


# What people type from other projects.
SYNONYMS = {
    "lr": "optimizer.learning_rate",
    "eta": "optimizer.learning_rate",
    "lam": "regularization.lam",
    "lambda": "regularization.lam",
    "weight_decay": "regularization.lam",
    "wd": "regularization.lam",
    "method": "regularization",
    "dataset": "data",
    "batch": "training.batch_size",
    "width": "model.width",
    "depth": "model.depth",
    "dropout": "model.dropout",
    "momentum": "optimizer.momentum",
}


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
class OpenGroup:
    """A group of the config that takes any key.

    The other fields are keys of every option; what is no such key is an argument.

    Attributes:
        arguments: Of what the option names, by name.
    """

    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def node(self) -> dict[str, Any]:
        """The arguments, as an option has them."""
        return dict(self.arguments)


@dataclass
class TargetGroup(OpenGroup):
    """A group whose options name a function or class of anyone's.

    Attributes:
        target: `module.function`; `_target_` in the config.
    """

    target: str = ""

    @property
    def name(self) -> str:
        """The target for people: without the module, if that is one of ours."""
        own = self.target.startswith(("l2keras_experiments.", "keras."))
        return self.target.rpartition(".")[2].lower() if own else self.target

    @property
    def node(self) -> dict[str, Any]:
        """The target and its arguments, as `targets.instantiate` takes them."""
        return {"_target_": self.target, **self.arguments}


@dataclass
class DataConfig(TargetGroup):
    target: str = "l2keras_experiments.data.sources.digits"
    num_train: int | None = _key(None, "training examples to keep; null for all")
    label_noise: float = _key(0.0, "fraction of the training labels redrawn at random")
    validation_fraction: float | None = _key(
        None, "of what is not for testing, where the data come without validation; null: 0.2"
    )
    test_fraction: float | None = _key(None, "of data that come whole; 0 for no test; null: 0.2")
    split_seed: int = _key(0, "of the split into parts, and of what num_train keeps")
    task: str | None = _key(
        None, "classification, regression or multilabel; null: as the targets show"
    )
    num_outputs: int | None = _key(
        None, "classes, where the data come in batches; null: as the targets show"
    )
    standardize: bool = _key(
        False, "give each input the mean 0 and deviation 1 of the training examples"
    )

    @property
    def name(self) -> str:
        """A file's name without its ending; else as for every group."""
        path = self.arguments.get("path")
        return PurePath(path).stem if isinstance(path, str) else super().name


@dataclass
class ModelConfig(TargetGroup):
    target: str = "l2keras_experiments.training.models.mlp"

    @property
    def is_built_in(self) -> bool:
        return self.target.startswith("l2keras_experiments.")


@dataclass
class OptimizerConfig(TargetGroup):
    target: str = "keras.optimizers.SGD"
    learning_rate: float = _key(0.2, "eta; the peak of the schedule")
    schedule: Any = _key(
        "constant",
        "constant, cosine, linear, exponential, piecewise, one_cycle or one with a _target_",
    )
    warmup_fraction: float = _key(0.0, "fraction of the steps spent warming up linearly from zero")


@dataclass
class RegularizationConfig(OpenGroup):
    name: str = _key("none", "method, see the options of the group")
    lam: float = _key(0.0, "lambda; builtin_l2 pastes it as keras.regularizers.L2(lam)")
    decay_all: bool = _key(False, "decay biases and norms too")
    include: Any = _key(None, "patterns of variable paths to decay; null: kernels and embeddings")
    exclude: Any = _key(None, "patterns of variable paths not to decay")
    scale: Any = _key(None, "factors of lambda by pattern; the first pattern that matches counts")
    schedule: Any = _key("constant", "of lambda over the training: as optimizer.schedule")
    own_l2: str = _key(
        "replace", "L2 that a model brings: replace, or keep it in the place of lambda"
    )
    groups: Any = _key(
        None, "list of further WeightDecays, each a mapping with include and keys of its own"
    )


@dataclass
class EarlyStoppingConfig:
    patience: int | None = _key(None, "epochs without a better value; null: train all epochs")
    monitor: str | None = _key(
        None, "metric that is to improve; null: training.selection, else val_data_loss"
    )
    mode: str = _key("auto", "min, max, or auto: as the metric says")
    min_delta: float = _key(0.0, "a smaller improvement does not count")
    restore_best: bool = _key(True, "end with the weights of the best epoch")


@dataclass
class TrainingConfig:
    loss: Any = _key(None, "name of Keras, or one with a _target_; null: as the task needs")
    metrics: Any = _key(None, "list of names or _target_s; null: accuracy, if there are classes")
    class_weight: Any = _key(None, "weight of the loss by class, such as {0: 1.0, 1: 5.0}")
    selection: str | None = _key(
        None,
        "validation metric that ranks runs, such as val_top2; null: val_accuracy, else "
        "val_data_loss",
    )
    selection_mode: str = _key("auto", "of training.selection: min, max, or auto: as it says")
    callbacks: list[Any] = _key([], "list of further callbacks, each with a _target_")
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    validation_freq: int = _key(1, "epochs from one validation to the next")
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
    log_model: bool = _key(True, "keep the trained model, as an MLflow model")
    system_metrics: bool = _key(
        False, "record the load of the machine: CPU, memory, disk, network, GPU; needs psutil"
    )
    parent: str | None = _key(None, "id of the run to hang under; a sweep sets it")
    varied: list[str] = _key([], "keys in the names of runs, which differ in them; a sweep sets it")
    planned: str | None = _key(None, "hash of the run when the sweep began; a sweep sets it")


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
    pruning: bool = _key(True, "end trials early: the worse half of a batch, or below the median")
    warmup_epochs: int = _key(5, "epochs of a trial before it may be pruned")
    batch_size: int = _key(10, "trials trained at once, where that can be; 1: one by one")
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


_POSITIVE = {  # with an example
    "optimizer.learning_rate": 0.1,
    "training.epochs": 60,
    "training.batch_size": 32,
    "training.validation_freq": 1,
    "training.steps_per_execution": 1,
    "training.gradient_accumulation_steps": 1,
}
_LAMBDAS = ("regularization.lam", "compare.lams")


class ConfigError(ValueError):
    """A mistake in the configuration; the message is one line for the user."""


@functools.cache
def _types(schema: type) -> dict[str, Any]:
    """The types of the fields: a sweep of hundreds of jobs asks for them thousands of times."""
    return get_type_hints(schema)


def keys(schema: type, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """Every leaf key of `schema` with its dataclass field and its type, in order."""
    types = _types(schema)
    for item in fields(schema):
        kind = types[item.name]
        if is_dataclass(kind):
            yield from keys(kind, f"{prefix}{item.name}.")  # type: ignore[arg-type]  # a class
        elif item.metadata:
            yield f"{prefix}{item.name}", item, kind


def value(config: Config, key: str) -> Any:
    """The value of a dotted key; the word for one of an Enum."""
    found = functools.reduce(getattr, key.split("."), config)
    return getattr(found, "value", found)


def flat(config: Config) -> dict[str, Any]:
    """Every key with its value, those of the targets' arguments included."""
    found = {key: value(config, key) for key, _, _ in keys(type(config))}
    for group in open_groups(type(config)):
        node = getattr(config, group).node
        found |= {f"{group}.{name}": argument for name, argument in node.items()}
    return found


def open_groups(schema: type) -> dict[str, type[OpenGroup]]:
    """The groups of `schema` that name a target, with their types."""
    types = _types(schema)
    return {
        item.name: types[item.name]
        for item in fields(schema)
        if isinstance(types[item.name], type) and issubclass(types[item.name], OpenGroup)
    }


def own_keys(group: str | OpenGroup | type[OpenGroup]) -> list[str]:
    """The keys of an open group that are no arguments of its target."""
    kind = open_groups(Config)[group] if isinstance(group, str) else group
    return [item.name for item in fields(kind) if item.metadata]


def varying(configs: Sequence[Config]) -> dict[str, list[Any]]:
    """The keys that are not the same in all `configs`, with their values in order of appearance."""
    every = [flat(config) for config in configs]
    found: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for one in every for key in one):
        shown = {repr(one.get(key)): one.get(key) for one in every}
        if len(shown) > 1:
            found[key] = list(shown.values())
    return found


def varied_keys(configs: Sequence[Config]) -> list[str]:
    """The keys by which runs are told apart in their names, beside lambda, seed and the like.

    Of keys that change together only one, a target if any.
    """
    every = [flat(config) for config in configs]
    found: dict[tuple[int, ...], str] = {}
    for key in sorted(varying(configs), key=lambda key: (not key.endswith("._target_"), key)):
        if key in _NAMED or key.startswith(("tracking.", "training.progress", "rerun")):
            continue
        values = [repr(one.get(key)) for one in every]
        kinds = list(dict.fromkeys(values))
        found.setdefault(tuple(kinds.index(value) for value in values), key)
    return sorted(found.values())


def _varied(config: Config) -> list[str]:
    """The values of `tracking.varied`, as short texts."""
    every, words = flat(config), []
    for key in config.tracking.varied:
        group, _, name = key.rpartition(".")
        if name == "_target_":
            words.append(f"{group}={getattr(config, group).name}")
        elif key in every:
            given = every[key]
            text = str(given.get("_target_", given) if isinstance(given, Mapping) else given)
            short = text.rpartition("/")[2] if isinstance(given, str) else text  # a path's end
            words.append(f"{name}={short[-LONGEST_VALUE:]}")
    return words


def optimizer_name(config: Config) -> str:
    """The optimizer for people: SGD with momentum is "momentum"."""
    has_momentum = config.optimizer.name == "sgd" and config.optimizer.arguments.get("momentum")
    return "momentum" if has_momentum else config.optimizer.name


def briefly(number: float) -> str:
    """A number of six digits in few letters: 0.01, 0.0025, 2.5e-4."""
    plain = f"{number:g}"
    if len(plain) <= len("0.0025"):
        return plain
    digits, _, power = f"{number:.5e}".partition("e")
    return min(plain, f"{digits.rstrip('0').rstrip('.')}e{int(power)}", key=len)


def run_name(config: Config) -> str:
    """A run in the MLflow UI, whose columns show 12 letters: lambda and seed come first."""
    chosen, rate = config.regularization, config.optimizer.learning_rate
    lam = 0.0 if chosen.name == "none" else chosen.lam
    words = [f"{briefly(lam)} s{config.seed}", *_varied(config), methods.short(chosen.name)]
    return " ".join([*words, f"eta={rate:g}"])


def run_label(config: Config) -> str:
    """What tells a run from its neighbours, for people."""
    name, lam = methods.label(config.regularization.name), config.regularization.lam
    words = [f"{name} lam={lam:g} eta={config.optimizer.learning_rate:g}", *_varied(config)]
    return " ".join([*words, f"seed={config.seed}"])


def check(config: Config) -> None:
    """Raises ConfigError for a value that no run could use.

    Shapes and names that depend on the data are checked where they are used.
    """
    _check_every_key(config)
    for key, found in flat(config).items():
        check_number(key, found, f"{key}={found}")
    _check_names(config)
    if config.training.dtype is Dtype.float64 and config.training.mixed_precision.value != "none":
        raise ConfigError(
            "`training.mixed_precision` needs float32 weights. "
            f"Received: training.dtype=float64, training.mixed_precision="
            f"{config.training.mixed_precision.value}. Leave one of them out."
        )


def check_number(key: str, found: Any, received: str) -> None:
    """Raises ConfigError for a number outside of what its key takes.

    Args:
        key: Dotted.
        found: The value, of the key's type.
        received: The key and the value as they were typed, or as composed.
    """
    if key in _POSITIVE and not 0 < found <= LARGEST_FLOAT:
        raise ConfigError(
            f"`{key}` must be positive and finite in float32. Received: {received}. "
            f"Write a larger or smaller number, such as {key}={_POSITIVE[key]}."
        )
    if key in _LAMBDAS:
        values = found if isinstance(found, Sequence) else [found]
        if not all(0 <= lam <= LARGEST_FLOAT for lam in values):
            raise ConfigError(
                f"`{key}` must be finite in float32 and >= 0. Received: {received}. "
                "For no regularization write 0."
            )
    if key == "seed" and not 0 <= found < 2**32:
        raise ConfigError(
            f"`seed` must be from 0 to 2**32 - 1. Received: {received}. Write seed=0."
        )


def _check_names(config: Config) -> None:
    if not config.tracking.study.strip():
        raise ConfigError(
            "`tracking.study` must be a name. Received: an empty one. Leave it out for l2keras."
        )
    if len(config.tracking.study.encode()) > LONGEST_NAME:
        raise ConfigError(
            f"`tracking.study` must have at most {LONGEST_NAME} bytes, as it names a folder. "
            f"Received: {len(config.tracking.study.encode())} bytes. Choose a shorter name."
        )
    if config.tracking.system_metrics and importlib.util.find_spec("psutil") is None:
        raise ConfigError(
            "`tracking.system_metrics=true` needs the package psutil. Received: an environment "
            "without it. Install it: pip install psutil."
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
    for key, found in flat(config).items():
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
