"""What a dataset is, in a few texts: for MLflow's column of datasets. Knows no MLflow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from l2keras_experiments.config.schema import DataConfig
from l2keras_experiments.data.datasets import Dataset, named_arrays
from l2keras_experiments.data.sources import Array
from l2keras_experiments.data.streams import StreamDataset


def describe(data: Dataset | StreamDataset, config: DataConfig) -> list[dict[str, str]]:
    """Returns a description of each part, in the words of MLflow's dataset inputs.

    Args:
        data: The examples, or the batches.
        config: Where they come from: the file at `path`, else the target.

    Returns:
        For each part its context ("train", "validation" or "test"), and the name, digest, source,
        schema and profile of its arrays, or of its first batch.
    """
    parts = data.samples if isinstance(data, StreamDataset) else data.parts
    path = config.arguments.get("path")
    code: dict[str, Any] = {"tags": {"mlflow.source.name": config.target}}
    is_file = isinstance(path, str)
    source_type, source = ("local", {"uri": path}) if is_file else ("code", code)
    return [
        {
            "context": part,
            "name": data.name,
            "digest": data.digests[part],
            "source_type": source_type,
            "source": json.dumps(source),
            "schema": json.dumps({"mlflow_tensorspec": {"features": _schema(named_arrays(x)),
                                                        "targets": _schema([("", y)])}}),
            "profile": json.dumps({
                **_size(data, part),
                "task": data.task,
                "num_outputs": data.num_outputs,
            }),
        }
        for part, (x, y) in parts.items()
    ]  # fmt: skip


def _size(data: Dataset | StreamDataset, part: str) -> dict[str, int]:
    if isinstance(data, StreamDataset):
        return {"num_batches": data.num_batches[part], "batch_size": len(data.samples[part][1])}
    x, y = data.parts[part]
    return {"num_rows": len(y), "num_elements": sum(array.size for _, array in named_arrays(x))}


def _schema(arrays: Sequence[tuple[str, Array]]) -> str:
    """Types and shapes as MLflow's `Schema.to_json` writes them; -1 is the number of examples."""
    specs: list[dict[str, Any]] = []
    for name, array in arrays:
        spec = {"dtype": array.dtype.name, "shape": [-1, *array.shape[1:]]}
        specs.append({"type": "tensor", "tensor-spec": spec, **({"name": name} if name else {})})
    return json.dumps(specs)
