"""Models and datasets as MLflow keeps them."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NAME = "model"  # runs:/RUN_ID/model
DATA = "data"  # the folder of the Keras file in an MLflow model
_CODE, _LOADER = "code", "load_l2keras_model"
# Goes with every model. Keras looks for the classes of a model among those that were imported.
_LOADER_SOURCE = '''"""Loads this model for MLflow, with what its classes come from."""

import importlib
import pathlib

import l2keras  # registers its regularizers


def _load_pyfunc(path):
    from mlflow.keras import _load_pyfunc as load

    for module in pathlib.Path(path, "modules.txt").read_text().split():
        importlib.import_module(module)
    return load(path)
'''


def dataset_input(described: Mapping[str, str]) -> Any:
    """MLflow's entity for a dataset that `data.description.describe` tells of."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    about = dict(described)
    tags = [InputTag(MLFLOW_DATASET_CONTEXT, about.pop("context"))]
    return DatasetInput(Dataset(**about), tags=tags)


def write(folder: Path, about: Mapping[str, Any], run_id: str, logged: Any, num_bytes: int) -> None:
    """Writes what makes an MLflow model of a Keras file: everything but the file itself.

    MLflow's `keras.save_model` would save the model a second time, at half the speed.

    Args:
        folder: Where to.
        about: See `run.Run.log_model`.
        run_id: Of the run that trained it.
        logged: The model in the store.
        num_bytes: Size of the Keras file.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.utils.environment import _mlflow_conda_env, _PythonEnv

    versions = about["versions"]
    backend = versions["running_backend"]
    signature = None
    if about["inputs"] is not None:
        signature = ModelSignature(_schema(about["inputs"]), _schema(about["outputs"]))
    model = Model(
        artifact_path=logged.artifact_location,
        run_id=run_id,
        model_id=logged.model_id,
        model_uuid=logged.model_id,
        signature=signature,
        model_size_bytes=num_bytes,
    )
    model.add_flavor(
        "keras",
        data=DATA,
        keras_version=versions["version.keras"],
        keras_backend=backend,
        save_exported_model=False,
    )
    model.add_flavor(  # as `pyfunc.add_to_model`, whose import warns of MLflow itself
        "python_function",
        loader_module=_LOADER,
        python_version=platform.python_version(),
        code=_CODE,
        env={"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
    )
    model.save(str(folder / "MLmodel"))
    (folder / "modules.txt").write_text("".join(f"{name}\n" for name in about["modules"]))
    (folder / _CODE).mkdir()
    (folder / _CODE / f"{_LOADER}.py").write_text(_LOADER_SOURCE)
    (folder / DATA).mkdir()
    (folder / DATA / "keras_module.txt").write_text("keras")
    requirements = _requirements(versions)
    (folder / "requirements.txt").write_text("\n".join(requirements))
    conda = _mlflow_conda_env(additional_pip_deps=requirements, install_mlflow=False)
    (folder / "conda.yaml").write_text(json.dumps(conda))
    _PythonEnv.current().to_yaml(str(folder / "python_env.yaml"))


def _schema(specs: Sequence[tuple[str | None, str, Sequence[int]]] | None) -> Any:
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    if specs is None:
        return None
    return Schema([TensorSpec(np.dtype(kind), tuple(shape), name) for name, kind, shape in specs])


def _requirements(versions: Mapping[str, str]) -> list[str]:
    """The packages that the model was trained with, for pip; MLflow serves it."""
    import mlflow

    packages = ("keras", "l2keras", "numpy", versions["running_backend"])
    found = {name: versions.get(f"version.{name}", "") for name in packages}
    return [
        f"mlflow=={mlflow.__version__}",
        *(f"{name}=={version}" for name, version in found.items() if version[:1].isdigit()),
    ]
