"""Data that come in batches of their own: a `tf.data.Dataset` or a `keras.utils.PyDataset`.

The order of the batches is theirs, so a run that was interrupted begins anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from l2keras_experiments.config import targets
from l2keras_experiments.config.schema import ConfigError, DataConfig, TrainingConfig
from l2keras_experiments.data.datasets import (
    PARTS,
    TASKS,
    Dataset,
    are_zeros_and_ones,
    as_arrays,
    check_classes,
    check_num_outputs,
    is_stream,
    map_arrays,
    named_arrays,
    of_arrays,
    parts_of,
    returned_by,
)
from l2keras_experiments.data.sources import Array

NEEDS_ARRAYS = {  # with their defaults
    "num_train": None,
    "label_noise": 0.0,
    "standardize": False,
    "validation_fraction": None,
    "test_fraction": None,
    "split_seed": 0,
}
_REMEDIES = {
    None: "Return the number of batches from num_batches.",
    -1: "End it with .take(number_of_batches).",  # tf.data.INFINITE_CARDINALITY
    -2: "Set it with .apply(tf.data.experimental.assert_cardinality(number_of_batches)).",
}


@dataclass(frozen=True, eq=False)
class StreamDataset:
    """Batches to train on, to select by and to report, and what a model must know of them.

    Attributes:
        name: As `DataConfig.name`.
        streams: A `tf.data.Dataset` or `PyDataset` for each part, by its name in PARTS.
        num_batches: Of each part.
        samples: x and y of the first batch of each part, as arrays.
        has_weights: Whether the batches to train on have sample weights.
        digests: Eight hex digits for each part, of its source, arguments, shapes and length; the
            values of its examples do not count.
        task: One of TASKS.
        num_outputs: Classes, targets or labels.
    """

    name: str
    streams: dict[str, Any]
    num_batches: dict[str, int]
    samples: dict[str, tuple[Any, Array]]
    has_weights: bool
    digests: dict[str, str]
    task: str
    num_outputs: int

    @property
    def batch_size(self) -> int:
        """Examples in the first batch to train on."""
        return len(self.samples["train"][1])

    @property
    def input_shape(self) -> Any:
        """The shape of one example; for nested inputs a structure of shapes."""
        return map_arrays(lambda array: tuple(array.shape[1:]), self.sample_inputs)

    @property
    def sample_inputs(self) -> Any:
        """Inputs of a batch to train on."""
        return self.samples["train"][0]

    @property
    def sample_targets(self) -> Array:
        """Targets of a batch to train on."""
        return self.samples["train"][1]

    def check_training(self, training: TrainingConfig) -> None:
        """Raises ConfigError for a `training` that these batches contradict."""
        if training.batch_size != self.batch_size:
            raise ConfigError(
                "`training.batch_size` must be the size of the batches that the data bring. "
                f"Received: training.batch_size={training.batch_size}, and batches of "
                f"{self.batch_size} from {self.name}. Set training.batch_size={self.batch_size}, "
                "or give the function ${training.batch_size}."
            )
        if training.class_weight is not None and self.has_weights:
            raise ConfigError(
                "`training.class_weight` needs batches without sample weights. Received: "
                f"training.class_weight={training.class_weight} and weights from {self.name}. "
                "Leave one of them out."
            )


def load_any(config: DataConfig, seed: int, dtype: str) -> Dataset | StreamDataset:
    """The dataset that `config` names, as `load_data`; batches where its target returns such.

    Args:
        config: Of the data.
        seed: As for `load_data`.
        dtype: Of arrays; batches stay as they are.
    """
    returned = returned_by(config, seed, dtype)
    if any(map(is_stream, parts_of(returned).values())):
        return _of_streams(returned, config, seed)
    return of_arrays(returned, config, seed, dtype)


def _of_streams(returned: Any, config: DataConfig, seed: int) -> StreamDataset:
    """Checks what a target returned, of which a part is a stream.

    Reads the first batch of each part once.

    Args:
        returned: (train, validation), (train, validation, test), or a dict of these names.
        config: Of the data.
        seed: Of the run.

    Raises:
        ConfigError: data that no run could train on, or that `config` does not fit.
    """
    for key, default in NEEDS_ARRAYS.items():
        if getattr(config, key) != default:
            raise ConfigError(
                f"`data.{key}` needs arrays. Received: data.{key}={getattr(config, key)} with "
                f"batches from {config.target}. Set data.{key}="
                f"{'null' if default is None else str(default).lower()}, or return arrays."
            )
    streams = _streams(returned, config)
    num_batches = {part: _num_batches(stream, part, config) for part, stream in streams.items()}
    first = {part: _first_batch(stream, part, config) for part, stream in streams.items()}
    samples = {part: (x, y) for part, (x, y, *_) in first.items()}
    _check_shapes(samples, config)
    task = config.task or _guessed_task(samples["train"][1], config)
    return StreamDataset(
        name=config.name,
        streams=streams,
        num_batches=num_batches,
        samples=samples,
        has_weights=len(first["train"]) == 3,
        digests={
            part: _digest([part, seed, num_batches[part], _form(samples[part])], config)
            for part in streams
        },
        task=task,
        num_outputs=_num_outputs(samples, task, config),
    )


def _is_tf(stream: Any) -> bool:
    return hasattr(stream, "element_spec")


def _streams(returned: Any, config: DataConfig) -> dict[str, Any]:
    parts = parts_of(returned)
    too_many = isinstance(returned, list | tuple) and len(returned) > len(PARTS)
    kinds = {part: type(value).__name__ for part, value in parts.items()}
    if too_many or not set(parts) <= set(PARTS) or not all(map(is_stream, parts.values())):
        raise ConfigError(
            f"{config.target} must return a tf.data.Dataset or PyDataset for each part: train, "
            f"validation and maybe test. Received: "
            f"{f'{len(returned)} parts' if too_many else kinds}. Correct what it returns."
        )
    if not {"train", "validation"} <= set(parts):
        raise ConfigError(
            "Data in batches must come with a validation part: lambda is selected by it, and "
            "data.validation_fraction splits arrays only. "
            f"Received: {', '.join(parts)} from {config.target}. Return (train, validation)."
        )
    return parts


def _num_batches(stream: Any, part: str, config: DataConfig) -> int:
    number: int | None = None
    with suppress(NotImplementedError):
        number = int(stream.cardinality()) if _is_tf(stream) else stream.num_batches
    if number is None or number in _REMEDIES:
        raise ConfigError(
            "The number of batches in an epoch must be known. Received: "
            f"{'endless' if number == -1 else 'unknown'} in the part {part} of {config.target}. "
            f"{_REMEDIES[number]}"
        )
    if number < 1:
        raise ConfigError(
            "Each part must have a batch. "
            f"Received: none in the part {part} of {config.target}. Correct the data."
        )
    return number


def _first_batch(stream: Any, part: str, config: DataConfig) -> tuple[Any, ...]:
    """(x, y) or (x, y, sample_weight) of the first batch, as arrays."""
    batch = next(iter(stream.take(1).as_numpy_iterator())) if _is_tf(stream) else stream[0]
    if not isinstance(batch, list | tuple) or len(batch) not in (2, 3):
        received = f"{type(batch).__name__}"
        if isinstance(batch, list | tuple):
            received += f" of {len(batch)}"
        raise ConfigError(
            "Each batch must be (x, y) or (x, y, sample_weight). "
            f"Received: {received} in the part {part} of {config.target}. Correct the data."
        )
    x, y, *weights = (as_arrays(value, config) for value in batch)
    arrays = [array for _, array in named_arrays(x)] + [array for _, array in named_arrays(y)]
    if not isinstance(y, np.ndarray) or any(array.dtype.kind not in "biuf" for array in arrays):
        raise ConfigError(
            "x must be numbers, y one array of numbers. Received: "
            f"{dict(_form((x, y)))} in the part {part} of {config.target}. Convert them in the "
            "function."
        )
    if len({array.shape[:1] for array in arrays}) > 1 or not y.ndim:
        raise ConfigError(
            "x and y of a batch must have the same number of examples. Received: the shapes "
            f"{[array.shape for array in arrays]} in the part {part} of {config.target}. "
            "Make batches, such as with .batch(32)."
        )
    return (x, y, *weights)


def _check_shapes(samples: Mapping[str, tuple[Any, Array]], config: DataConfig) -> None:
    shapes = {
        part: map_arrays(lambda array: tuple(array.shape[1:]), list(pair))
        for part, pair in samples.items()
    }
    if any(shape != shapes["train"] for shape in shapes.values()):
        raise ConfigError(
            f"Examples must have one shape in all parts. Received: {shapes} (x, y) from "
            f"{config.target}. Correct the data."
        )


def _guessed_task(y: Array, config: DataConfig) -> str:
    """The task that targets like these of one batch must mean."""
    if y.dtype.kind in "iu" and y.size == len(y):
        return "classification"
    if y.dtype.kind == "f" and not are_zeros_and_ones(y):
        return "regression"
    raise ConfigError(
        "`data.task` must be set where a batch does not show it. Received: y of "
        f"{y.dtype}{y.shape} from {config.target}. Set data.task to one of {', '.join(TASKS)}."
    )


def _num_outputs(samples: Mapping[str, tuple[Any, Array]], task: str, config: DataConfig) -> int:
    ys = [y for _, y in samples.values()]
    if task != "classification":
        num_outputs = ys[0].size // len(ys[0])
        check_num_outputs(num_outputs, config)
        return num_outputs
    if any(y.dtype.kind not in "biu" or y.size != len(y) for y in ys):
        raise ConfigError(
            "`data.task=classification` needs the number of a class for each example. Received: "
            f"y of {ys[0].dtype}{ys[0].shape} from {config.target}. Convert it in the function."
        )
    if config.num_outputs is None:
        raise ConfigError(
            "`data.num_outputs` must be the number of classes where the data come in batches. "
            f"Received: none, with {config.target}. Set data.num_outputs=..., or "
            "data.task=regression."
        )
    check_classes(config.num_outputs, config)
    lowest, highest = min(int(y.min()) for y in ys), max(int(y.max()) for y in ys)
    if lowest < 0 or highest >= config.num_outputs:
        raise ConfigError(
            f"Classes must be numbers from 0 to data.num_outputs - 1. Received: {lowest} to "
            f"{highest} from {config.target}, with data.num_outputs={config.num_outputs}. "
            "Correct data.num_outputs, or the data."
        )
    return config.num_outputs


def _form(pair: tuple[Any, Any]) -> list[tuple[str, str]]:
    """Type and shape of each array in (x, y), the number of examples left out."""
    named = named_arrays({"x": pair[0], "y": pair[1]})
    return [(name, f"{array.dtype}{[*array.shape[1:]]}") for name, array in named]


def _digest(content: list[Any], config: DataConfig) -> str:
    text = json.dumps([*content, config.node, targets.source_hash(config.node)], default=str)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
