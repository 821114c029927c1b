"""Datasets as arrays, in three parts: what `data` names. Knows neither Keras layers nor MLflow.

`check_data_config` imports nothing heavy, so that it can answer before the backend is imported.
"""

from __future__ import annotations

import functools
import hashlib
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from l2keras_experiments.config import targets
from l2keras_experiments.config.schema import ConfigError, DataConfig
from l2keras_experiments.data import files, sources
from l2keras_experiments.data.sources import Array, stratified_order
from l2keras_experiments.runtime import durable

SOURCES = "l2keras_experiments.data.sources"  # the module of the built-in datasets
CSV = "l2keras_experiments.data.files.csv"
SUPPLIED = ("seed", "dtype")  # passed to the target where it takes them
TASKS = ("classification", "regression", "multilabel")
PARTS = ("train", "validation", "test")
FRACTION = 0.2  # for validation and for testing, where the config leaves it open
FEW = 10  # examples that measure too little to select by; classes that may be as many as examples


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples to train on, to select by and to report, and what a model must know of them.

    Attributes:
        name: As `DataConfig.name`.
        x_train, x_val: Arrays, or nested structures of arrays, of examples along the first axis.
        y_train, y_val: int32 classes (n,), or floats (n, outputs): targets of a regression, or
            0 and 1 for each label.
        x_test, y_test: The same, measured once, after training; None where there are none.
        task: One of TASKS.
        num_outputs: Classes, targets or labels.
    """

    name: str
    x_train: Any
    y_train: Array
    x_val: Any
    y_val: Array
    x_test: Any
    y_test: Array | None
    task: str
    num_outputs: int

    @property
    def num_train(self) -> int:
        return len(self.y_train)

    @property
    def input_shape(self) -> Any:
        """The shape of one example; for nested inputs a structure of shapes."""
        return map_arrays(lambda array: tuple(array.shape[1:]), self.x_train)

    @property
    def sample_inputs(self) -> Any:
        """Inputs to train on."""
        return self.x_train

    @property
    def sample_targets(self) -> Array:
        """Targets to train on."""
        return self.y_train

    @property
    def parts(self) -> dict[str, tuple[Any, Array]]:
        """The examples and targets of each part that there is, by its name in PARTS."""
        parts = {"train": (self.x_train, self.y_train), "validation": (self.x_val, self.y_val)}
        return parts if self.y_test is None else parts | {"test": (self.x_test, self.y_test)}

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """Eight hex digits for each part, of the bytes, shapes and types of its arrays."""
        return {part: _digest(part, *pair) for part, pair in self.parts.items()}

    @property
    def vocabulary_size(self) -> int:
        """Count of distinct tokens, where x is one array of whole numbers; else 0."""
        parts = [x for x in (self.x_train, self.x_val, self.x_test) if isinstance(x, np.ndarray)]
        if not all(np.issubdtype(x.dtype, np.integer) for x in parts):
            return 0
        return max((int(x.max()) + 1 for x in parts if x.size), default=0)


def _digest(part: str, x: Any, y: Array) -> str:
    found = hashlib.blake2b(part.encode(), digest_size=4)
    for name, array in [*named_arrays(x), ("y", y)]:
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def named_arrays(structure: Any, name: str = "") -> list[tuple[str, Array]]:
    """The arrays in a structure, each with its keys and positions joined by dots."""
    if isinstance(structure, Mapping):
        within = list(structure.items())
    elif isinstance(structure, list | tuple):
        within = list(enumerate(structure))
    else:
        return [(name, structure)]
    return [
        one
        for key, value in within
        for one in named_arrays(value, f"{name}.{key}" if name else str(key))
    ]


def map_arrays(function: Callable[[Array], Any], structure: Any) -> Any:
    """`function` of each array in a structure of dicts, lists and tuples."""
    if isinstance(structure, Mapping):
        return {key: map_arrays(function, value) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)([map_arrays(function, value) for value in structure])
    return function(structure)


def rows(structure: Any, indices: Any) -> Any:
    """The examples of these indices, or of this slice."""
    return map_arrays(lambda array: array[indices], structure)


def check_data_config(config: DataConfig) -> None:
    """Raises ConfigError, a ValueError, for what is wrong whatever the data hold."""
    targets.check("data", config.node, SUPPLIED)
    targets.check_not_supplied("data", config.node, SUPPLIED, "the run")
    if config.task is not None and config.task not in TASKS:
        raise ConfigError(
            f"`data.task` must be one of {', '.join(TASKS)}, or null. "
            f"Received: data.task={config.task}. Write one of them."
        )
    for key in ("label_noise", "validation_fraction", "test_fraction"):
        fraction = getattr(config, key) or 0.0
        most = 1.0 if key == "label_noise" else 0.9
        if not 0.0 <= fraction <= most:
            raise ConfigError(
                f"`data.{key}` must be a fraction from 0 to {most:g}. "
                f"Received: data.{key}={fraction}. Write data.{key}=0.2, say."
            )
    if config.split_seed < 0:
        raise ConfigError(
            f"`data.split_seed` must be at least 0. Received: data.split_seed={config.split_seed}."
        )
    if config.num_outputs is not None and config.num_outputs < 1:
        raise ConfigError(
            "`data.num_outputs` must be at least 1. "
            f"Received: data.num_outputs={config.num_outputs}. For what the targets show pass null."
        )
    if config.num_train is not None and config.num_train < 1:
        raise ConfigError(
            "`data.num_train` must be at least 1. "
            f"Received: data.num_train={config.num_train}. For all examples pass null."
        )
    _check_path(config)
    if config.target.rpartition(".")[0] == SOURCES:
        _check_source(config)


def _check_source(config: DataConfig) -> None:
    """Checks what is known of the built-in datasets before they are loaded."""
    name, arguments = config.name, config.arguments
    _check_split_keys(sources.parts_of(name), config)
    if name == sources.TEACHER_STUDENT:
        noise, features = arguments.get("target_noise", 0.0), arguments.get("num_features", 1)
        if config.label_noise:
            _refuse_label_noise(config, "regression")
        if not (math.isfinite(noise) and noise >= 0):
            raise ConfigError(
                "`data.target_noise` must be a finite, non-negative standard deviation. Received: "
                f"data.target_noise={noise}. For exact targets pass 0."
            )
        if features < 1:
            raise ConfigError(
                "`data.num_features` must be at least 1. "
                f"Received: data.num_features={features}. The default is 20."
            )
        _check_num_train(config, sources.num_examples(name))
    else:
        number = sources.num_examples(name)
        _check_num_train(config, number - round(_fraction(config.validation_fraction) * number))


def _fraction(value: float | None) -> float:
    return FRACTION if value is None else value


def _check_split_keys(parts: Collection[str], config: DataConfig) -> None:
    """Raises ConfigError for a key of the split that changes nothing in data of these parts."""
    is_split = "validation" not in parts
    without_effect = {
        "validation_fraction=null": config.validation_fraction is not None and not is_split,
        "test_fraction=null": config.test_fraction is not None and set(parts) != {"train"},
        "split_seed=0": config.split_seed != 0 and not is_split and config.num_train is None,
    }
    for default, is_useless in without_effect.items():
        key = default.partition("=")[0]
        if is_useless:
            raise ConfigError(
                f"`data.{key}` needs data that are split. Received: data.{key}="
                f"{getattr(config, key)}, and the parts {', '.join(parts)} from {config.target}. "
                f"Set data.{default}."
            )


def _refuse_label_noise(config: DataConfig, task: str) -> None:
    raise ConfigError(
        f"`data.label_noise` redraws classes, which a {task} does not have. "
        f"Received: data.label_noise={config.label_noise} with {config.name}. Pass 0."
    )


def _check_num_train(config: DataConfig, available: int) -> None:
    if config.num_train is not None and config.num_train > available:
        raise ConfigError(
            f"`data.num_train` must be at most {available}, all of {config.name} that is neither "
            f"for validation nor for testing. Received: data.num_train={config.num_train}. "
            "For all of them pass null."
        )


def input_kind(config: DataConfig) -> str | None:
    """What the inputs are, where that is known before they are loaded: of built-in datasets."""
    own = config.target.rpartition(".")[0] == SOURCES
    return sources.kind_of_inputs(config.name) if own else None


def _check_path(config: DataConfig) -> None:
    path = config.arguments.get("path")
    if not isinstance(path, str):
        return
    if not Path(path).is_file():
        raise ConfigError(
            "`data.path` must be a file. "
            f"Received: data.path={path}, which is none, in {Path.cwd()}. Correct the path."
        )
    if config.target == CSV:
        known = ("target", "drop", "sep")
        files.check_csv(path, **{k: v for k, v in config.arguments.items() if k in known})


def load_data(config: DataConfig, seed: int, dtype: str) -> Dataset:
    """The dataset that `config` names.

    Args:
        config: `num_train` keeps the first of an order in which every beginning holds the classes
            in proportion, so that a smaller set is part of a larger one. `split_seed` decides
            this order and the parts.
        seed: Decides the redrawn labels, and what a target draws that takes it. Never the parts.
        dtype: Of floats: "float32" or "float64".

    Raises:
        ConfigError: data that cannot be what `config` says, or that come in batches.
        TargetError: the target raised.
    """
    returned = returned_by(config, seed, dtype)
    if any(map(is_stream, parts_of(returned).values())):
        raise ConfigError(
            "Runs that share their batches need arrays. Received: a tf.data.Dataset or PyDataset "
            f"from {config.target}. Return arrays, or train each run alone."
        )
    return of_arrays(returned, config, seed, dtype)


def returned_by(config: DataConfig, seed: int, dtype: str) -> Any:
    """What the target of a checked config returns."""
    check_data_config(config)
    return targets.instantiate("data", config.node, seed=seed, dtype=dtype)


def is_stream(value: Any) -> bool:
    """Whether a value is a `tf.data.Dataset` or a `PyDataset`; imports neither."""
    return hasattr(value, "element_spec") or hasattr(value, "on_epoch_end")


def parts_of(returned: Any) -> dict[Any, Any]:
    """What a target returned, by part; a single value is that to train on."""
    if isinstance(returned, Mapping):
        return dict(returned)
    if isinstance(returned, list | tuple):
        return dict(zip(PARTS, returned, strict=False))
    return {"train": returned}


def of_arrays(returned: Any, config: DataConfig, seed: int, dtype: str) -> Dataset:
    """The dataset of what a target returned, as `load_data`."""
    parts = _parts(returned, config)
    task, num_outputs = _with_outputs(parts, config, dtype)
    check_num_outputs(num_outputs, config)
    _split(parts, config, task)
    _keep(parts, config, task)
    if config.label_noise:
        if task != "classification":
            _refuse_label_noise(config, task)
        x, y = parts["train"]
        parts["train"] = x, redraw_labels(y, config.label_noise, num_outputs, seed)
    if config.standardize:
        _standardize(parts)
    cast = {part: (map_arrays(_caster(dtype), x), y) for part, (x, y) in parts.items()}
    _check_shapes(cast, config)
    (x_train, y_train), (x_val, y_val) = cast["train"], cast["validation"]
    x_test, y_test = cast.get("test", (None, None))
    return Dataset(config.name, x_train, y_train, x_val, y_val, x_test, y_test, task, num_outputs)


def _parts(found: Any, config: DataConfig) -> dict[str, tuple[Any, Any]]:
    """The parts that a target returned, as arrays: "train" and maybe the others.

    Raises:
        ConfigError: it returned something else, or x and y of different lengths.
    """
    pairs = dict(found) if isinstance(found, Mapping) else _by_position(found)
    if pairs is None or "train" not in pairs or not set(pairs) <= set(PARTS) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs.values()
    ):  # fmt: skip
        received = f"keys {', '.join(map(str, found))}" if isinstance(found, Mapping) else (
            f"{type(found).__name__} of {len(found)}" if isinstance(found, list | tuple)
            else type(found).__name__
        )  # fmt: skip
        raise ConfigError(
            f"{config.target} must return (x, y), or (x_train, y_train), (x_val, y_val) with or "
            "without (x_test, y_test), or a dict of such pairs named train, validation, test. "
            f"Received: {received}. Correct what it returns."
        )
    inputs = _tables_as_numbers([x for x, _ in pairs.values()], config)
    parts = {}
    for part, x, (_, y) in zip(pairs, inputs, pairs.values(), strict=True):
        parts[part] = as_arrays(x, config), as_arrays(y, config)
        leaves = _leaves(parts[part][0])
        if not isinstance(parts[part][1], np.ndarray) or any(_are_texts(a) for a in leaves):
            raise ConfigError(
                "x must be numbers, y one array. Received: "
                f"{'texts in x' if any(map(_are_texts, leaves)) else 'several arrays in y'} in the "
                f"part {part} of {config.target}. Convert them in the function."
            )
        lengths = {a.shape[0] if a.ndim else 0 for a in (*leaves, parts[part][1])}
        if len(lengths) != 1 or lengths == {0}:
            raise ConfigError(
                f"x and y must have the same number of examples, at least one. Received: "
                f"{sorted(lengths)} in the part {part} of {config.target}. Correct the data."
            )
    return parts


def _by_position(found: Any) -> dict[str, Any] | None:
    if not isinstance(found, list | tuple):
        return None
    if all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in found):
        return dict(zip(PARTS, found, strict=False)) if len(found) in (2, 3) else None
    return {"train": tuple(found)} if len(found) == 2 else None


def _tables_as_numbers(structures: Sequence[Any], config: DataConfig) -> Sequence[Any]:
    """The inputs of all parts, with numbers in the place of tables that hold texts."""
    if any(isinstance(one, Mapping) for one in structures):
        names = [set(one) if isinstance(one, Mapping) else None for one in structures]
        if any(keys != names[0] for keys in names):
            return structures  # of different forms, which `_check_shapes` names
        inner = {
            key: _tables_as_numbers([one[key] for one in structures], config)
            for key in structures[0]
        }
        return [{key: inner[key][part] for key in inner} for part in range(len(structures))]
    pandas = sys.modules.get("pandas")
    if pandas is None or not all(isinstance(one, pandas.DataFrame) for one in structures):
        return structures
    remedy = "Convert the column in the function, or leave it out."
    return files.as_numbers(structures, config.target, lambda column: remedy)


def as_arrays(structure: Any, config: DataConfig) -> Any:
    """NumPy arrays in the place of tables, series, lists of numbers and tensors."""
    if isinstance(structure, Mapping) and not hasattr(structure, "to_numpy"):
        return {key: as_arrays(value, config) for key, value in structure.items()}
    nested = isinstance(structure, tuple | list) and any(
        hasattr(one, "shape") or isinstance(one, Mapping) for one in structure
    )
    if nested and getattr(structure[0], "shape", None) != ():
        return type(structure)([as_arrays(value, config) for value in structure])
    try:
        array = structure.to_numpy() if hasattr(structure, "to_numpy") else np.asarray(structure)
    except ValueError as error:  # lists of different lengths
        raise ConfigError(
            f"Data must be arrays. Received: {error} from {config.target}. Correct the data."
        ) from None
    if array.dtype == object and all(isinstance(value, str) for value in array.reshape(-1)):
        array = array.astype(str)
    if array.dtype == object:
        raise ConfigError(
            "Data must be arrays of numbers, or texts as classes. "
            f"Received: Python objects from {config.target}. Convert them in the function."
        )
    return array


def _are_texts(array: Array) -> bool:
    return array.dtype.kind not in "biufc"


def _leaves(structure: Any) -> list[Array]:
    found: list[Array] = []
    map_arrays(found.append, structure)
    return found


def _with_outputs(
    parts: dict[str, tuple[Any, Any]], config: DataConfig, dtype: str
) -> tuple[str, int]:
    """Gives `parts` the targets that losses take; returns the task and the number of outputs."""
    whole = [_flat(y) for _, y in parts.values()]
    if len({y.shape[1:] for y in whole}) > 1:
        raise ConfigError(
            f"y must have one shape in all parts. Received: {[y.shape for y in whole]} from "
            f"{config.target}. Correct the data."
        )
    together = np.concatenate(whole)
    _check_texts(together, config)
    task = config.task or _guessed_task(together, config)
    if together.dtype.kind == "f":
        _check_finite(together, "y", config)
    if task == "classification":
        if together.ndim == 2:
            if not _is_one_hot(together):
                raise ConfigError(
                    "`data.task=classification` needs one class for each example. Received: rows "
                    f"of y with other than a single 1 from {config.target}. Set data.task to "
                    "multilabel or regression, or return the classes."
                )
            whole = [y.argmax(axis=1) for y in whole]  # one-hot
            num_outputs = together.shape[1]
        else:
            classes = np.unique(together)
            whole = [np.searchsorted(classes, y) for y in whole]
            num_outputs = len(classes)
            _check_repeated(classes, len(together), config)
        check_classes(num_outputs, config)
        targets_of = [y.astype("int32") for y in whole]
    else:
        if not np.issubdtype(together.dtype, np.number) and together.dtype != bool:
            raise ConfigError(
                f"`data.task={task}` needs targets that are numbers. "
                f"Received: {together.dtype} from {config.target}. Convert them to numbers in the "
                "function, or choose data.task=classification if they are labels."
            )
        targets_of = [y.reshape(len(y), -1).astype(dtype) for y in whole]
        num_outputs = targets_of[0].shape[1]
    for (part, (x, _)), y in zip(list(parts.items()), targets_of, strict=True):
        parts[part] = x, y
    return task, num_outputs


def _check_texts(y: Array, config: DataConfig) -> None:
    """Raises ConfigError for texts in y that are no labels, and names the first."""
    if y.dtype.kind != "U" or config.task == "classification":
        return
    text = files.first_text(y.reshape(-1).tolist())
    if text is None or (config.task is None and y.ndim == 1 and not text.among_numbers):
        return
    expected = "Targets must be all numbers or all labels"
    if config.task is not None or y.ndim > 1:
        task = config.task or "regression"
        expected = f"`data.task={task}` needs targets that are numbers"
    where, other = f"from {config.target}", "return other targets"
    path = config.arguments.get("path")
    if config.target == CSV and path is not None:
        line = files.line_of(path, text.row, config.arguments.get("sep", ","))
        where = f"in line {line} and column {config.arguments['target']!r} of {path}"
        other = "choose another data.target"
    labels = ", or set data.task=classification if the targets are labels"
    if text.among_numbers:
        among, remedy = "numbers", text.remedy(labels)
    else:
        among, remedy = "texts", f"{other[0].upper()}{other[1:]}{labels}."
    raise ConfigError(f"{expected}. Received: {text.cell!r} among {among}, {where}. {remedy}")


def _check_repeated(classes: Array, number: int, config: DataConfig) -> None:
    """Raises ConfigError for classes that are about as many as the examples: ids or measurements.

    Args:
        classes: All that there are, sorted.
        number: Of examples.
        config: Names the target.
    """
    most = number - 1 if config.task else max(FEW, number // 2)  # more only where it is asked for
    if len(classes) <= min(most, number - 1) or number <= 2:
        return
    other = "choose another data.target" if config.target == CSV else "return other targets"
    remedy = f"{other[0].upper()}{other[1:]}"
    if np.issubdtype(classes.dtype, np.number):
        remedy = f"Set data.task=regression, or {other}"
    if config.task is None and len(classes) < number:
        remedy += ", or set data.task=classification if they are classes"
    raise ConfigError(
        f"A classification must have at most {most} classes in {number} examples. "
        f"Received: {len(classes)} from {config.name}. {remedy}."
    )


def _is_one_hot(y: Array) -> bool:
    return bool(np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all())


def _flat(y: Array) -> Array:
    return y.reshape(-1) if y.ndim == 2 and y.shape[1] == 1 else y


def _guessed_task(y: Array, config: DataConfig) -> str:
    """The task that targets of this form usually mean.

    Raises:
        ConfigError: they may mean two.
    """
    zeros_and_ones = y.ndim == 2 and bool(np.isin(y, (0, 1)).all())
    if zeros_and_ones and not _is_one_hot(y):
        return "multilabel"
    if y.ndim == 1 and not np.issubdtype(y.dtype, np.number):
        return "classification"
    if y.ndim == 1 and np.issubdtype(y.dtype, np.integer):
        if len(np.unique(y)) <= files.MOST_CLASSES:
            return "classification"
        received = f"{len(np.unique(y))} different whole numbers"
    elif zeros_and_ones:
        received = "a single 1 in each row of y"
    elif are_zeros_and_ones(y):
        received = "floats that are all 0 or 1"
    else:
        return "regression"
    raise ConfigError(
        "`data.task` must be set where the targets do not show it. "
        f"Received: {received} from {config.target}. Set data.task to one of {', '.join(TASKS)}."
    )


def _split(parts: dict[str, tuple[Any, Any]], config: DataConfig, task: str) -> None:
    """Takes test and validation from "train" where they are missing; split_seed decides which."""
    _check_split_keys(parts, config)
    fractions = {}
    if set(parts) == {"train"}:
        fractions["test"] = _fraction(config.test_fraction)
    if "validation" not in parts:
        fractions["validation"] = _fraction(config.validation_fraction)
    for part, fraction in fractions.items():
        x, y = parts["train"]
        order = _order(y, task, config.split_seed)
        number = round(fraction * len(y))
        if part == "validation" and not 0 < number < len(y):
            raise _no_validation(fraction, len(y), config)
        if number:
            for name, chosen in ((part, order[:number]), ("train", order[number:])):
                parts[name] = rows(x, chosen), y[chosen]
    if len(parts["validation"][1]) < FEW:
        _warn_of_few(config.name, len(parts["validation"][1]))


def _no_validation(fraction: float, number: int, config: DataConfig) -> ConfigError:
    received = f"{number} examples that are not for testing from {config.target}"
    if fraction and number > 1:
        smallest = math.ceil(100 / number) / 100
        remedy = f"Set data.validation_fraction={smallest:g}, or return more examples."
    else:
        remedy = "Return more examples." if fraction else "Set data.validation_fraction=0.2."
    return ConfigError(
        "There must be validation examples beside those to train on: lambda is selected by them. "
        f"Received: {received}, with data.validation_fraction={fraction:g}. {remedy}"
    )


@functools.cache
def _warn_of_few(name: str, number: int) -> None:
    """Warns once in a process."""
    examples = "1 validation example" if number == 1 else f"{number} validation examples"
    durable.warn(f"{name} has {examples}: metrics on so few say little about lambda")


def _keep(parts: dict[str, tuple[Any, Any]], config: DataConfig, task: str) -> None:
    """Keeps the first `num_train` examples to train on."""
    x, y = parts["train"]
    _check_num_train(config, len(y))
    kept = _order(y, task, config.split_seed)[: config.num_train]
    parts["train"] = rows(x, kept), y[kept]


def _order(y: Array, task: str, seed: int) -> Array:
    """A shuffled order; of classes, with each in proportion in every beginning."""
    return stratified_order(y if task == "classification" else np.zeros(len(y)), seed)


def _standardize(parts: dict[str, tuple[Any, Any]]) -> None:
    """Gives every input but tokens the mean 0 and deviation 1 of the training examples.

    Raises:
        ConfigError: there are only tokens.
    """
    x, _ = parts["train"]
    if all(map(_are_tokens, _leaves(x))):
        raise ConfigError(
            "`data.standardize` needs inputs that are no tokens. Received: whole numbers only. "
            "Return floats, or set data.standardize=false."
        )
    statistics = iter([(array.mean(axis=0), array.std(axis=0)) for array in _leaves(x)])
    moments = map_arrays(lambda array: next(statistics), x)

    def scaled(structure: Any, of: Any) -> Any:
        if isinstance(structure, Mapping):
            return {key: scaled(value, of[key]) for key, value in structure.items()}
        if isinstance(structure, list | tuple):
            pairs = zip(structure, of, strict=True)
            return type(structure)([scaled(value, own) for value, own in pairs])
        if _are_tokens(structure):
            return structure
        mean, deviation = of
        return (structure - mean) / np.where(deviation > 0, deviation, 1.0)

    for part, (values, y) in parts.items():
        parts[part] = scaled(values, moments), y


def _caster(dtype: str) -> Callable[[Array], Array]:
    """Floats and images to `dtype`, other whole numbers to int32: tokens."""

    def cast(array: Array) -> Array:
        return array.astype("int32" if _are_tokens(array) else dtype)

    return cast


def _are_tokens(array: Array) -> bool:
    """Whole numbers, but no images."""
    return bool(np.issubdtype(array.dtype, np.integer)) and array.ndim < 3


def _check_shapes(parts: dict[str, tuple[Any, Any]], config: DataConfig) -> None:
    """Raises ConfigError where the parts differ in shape, or hold what is not finite."""
    shapes = {
        part: map_arrays(lambda array: tuple(array.shape[1:]), x) for part, (x, _) in parts.items()
    }
    if any(shape != shapes["train"] for shape in shapes.values()):
        raise ConfigError(
            f"Examples must have one shape in all parts. Received: {shapes} from {config.target}. "
            "Correct the data."
        )
    for part, (x, _) in parts.items():
        for array in _leaves(x):
            _check_finite(array, f"x of the part {part}", config)


def _check_finite(array: Array, where: str, config: DataConfig) -> None:
    if not np.isfinite(array).all():
        raise ConfigError(
            f"Data must be finite. Received: nan or infinite values in {where} of {config.name}. "
            "Fill them, or leave these examples out."
        )


def check_num_outputs(num_outputs: int, config: DataConfig) -> None:
    """Raises ConfigError where `config` says another number than the data."""
    if config.num_outputs not in (None, num_outputs):
        raise ConfigError(
            f"`data.num_outputs` must be {num_outputs}, as the targets show. "
            f"Received: data.num_outputs={config.num_outputs} with {config.name}. Pass null."
        )


def check_classes(number: int, config: DataConfig) -> None:
    """Raises ConfigError for fewer than two classes."""
    if number < 2:
        raise ConfigError(
            "A classification must have at least two classes. "
            f"Received: {number} from {config.target}. Correct the targets, or set data.task."
        )


def are_zeros_and_ones(y: Array) -> bool:
    """Whether floats may as well be two classes."""
    return y.dtype.kind == "f" and bool(np.isin(y, (0, 1)).all())


def redraw_labels(labels: Array, fraction: float, num_classes: int, seed: int) -> Array:
    """Redraws round(fraction * n) labels, uniformly over all classes, the true one included."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(labels), size=round(fraction * len(labels)), replace=False)
    noisy = labels.copy()
    noisy[chosen] = rng.integers(num_classes, size=len(chosen))
    return noisy
