"""Walks a model: its variables with path, role and owner; its layers in order; its graph.

Touches the private lists and nodes of Keras layers.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

NORMALIZATION_LAYERS = tuple(
    getattr(keras.layers, name)
    for name in (
        "BatchNormalization",
        "GroupNormalization",
        "LayerNormalization",
        "RMSNormalization",
        "UnitNormalization",
    )
    if hasattr(keras.layers, name)
)

# Names of learned positions and tokens; `position_wise`, `pos_tag_embedding` are none of them.
_POSITIONAL_NAME = re.compile(
    r"(?<!and_)(?<![a-z])(pos|position|positional)_?(emb|embs|embed|embedding|embeddings|encoding)"
    r"(_?\d+)?(_|$)"
    r"|(?<![a-z])rel(ative)?_pos(ition)?(_|$)"
    r"|(?<![a-z])(cls|class|dist|distillation|register|mask)_tokens?(_|$)"
)
_POSITIONAL_CLASS = re.compile(r"(?<!And)Position(al)?(Emb|Encod)")


@dataclass(frozen=True)
class ModelVariable:
    """A variable of a model, once, with the layer that created it."""

    variable: Any
    owner: Any

    @property
    def path(self) -> str:
        """Keras' `variable.path`, such as `mlp/dense/kernel`."""
        return str(self.variable.path)

    @property
    def role(self) -> str:
        """The last part of the path: `kernel`, `bias`, `gamma`, `embeddings`, ..."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def in_normalization(self) -> bool:
        return isinstance(self.owner, NORMALIZATION_LAYERS)

    @property
    def is_positional(self) -> bool:
        """True for learned positions and class tokens, by the names of variable and layer."""
        if self.role.endswith("kernel"):
            return False
        names = [part.lower() for part in self.path.split("/")[-2:]]
        by_name = any(_POSITIONAL_NAME.search(name) for name in names)
        return by_name or bool(_POSITIONAL_CLASS.search(type(self.owner).__name__))

    @property
    def kind(self) -> str:
        """`norm`, `bias`, `positional`, `vector` (any other of rank < 2) or `kernel`."""
        rank = len(self.variable.shape)
        if self.in_normalization or (rank < 2 and "Norm" in type(self.owner).__name__):
            return "norm"
        if self.role.endswith("bias"):
            return "bias"
        if self.is_positional:
            return "positional"
        return "vector" if rank < 2 else "kernel"


def model_variables(model: Any) -> list[ModelVariable]:
    """Every weight of `model` once, in the order of `model.weights`, shared layers once too."""
    owners = {id(variable): layer for layer, variable in _owned(model)}
    return [ModelVariable(v, owners.get(id(v), model)) for v in _unique(model.weights)]


def is_built(model: Any) -> bool:
    """True once every layer has its variables; a model without shapes gets them in `fit`."""
    return all(layer.built for layer in model._flatten_layers())


def penalized(model: Any) -> list[Any]:
    """The variables whose regularizers Keras evaluates: trainable ones, each once."""
    return [variable for variable in model.trainable_weights if variable.regularizer is not None]


@contextmanager
def losses_once(model: Any) -> Iterator[list[Any]]:
    """`model.losses`, evaluated once: inside the block Keras reads this very list."""
    kept = model._losses_override  # of JAX's step, which has evaluated them already
    losses = list(kept or model.losses)
    vars(model)["_losses_override"] = losses
    try:
        yield losses
    finally:
        vars(model)["_losses_override"] = kept


def add_metrics(model: Any, metrics: Sequence[Any]) -> Any:
    """Adds metrics to a compiled model and returns their container, for `remove_metrics`.

    The container is one of those in which EarlyStopping looks up a metric's direction.
    """
    compile_utils: Any = importlib.import_module("keras.src.trainers.compile_utils")
    container = compile_utils.MetricsList(list(metrics))
    container.result = container.get_result
    model._metrics.append(container)
    return container


def remove_metrics(model: Any, container: Any) -> None:
    """Takes the container out again, if it is there."""
    model._metrics[:] = [metric for metric in model._metrics if metric is not container]


def sublayers(layer: Any) -> list[Any]:
    """`layer` itself and every layer inside it, each once."""
    return list({id(found): found for found in layer._flatten_layers()}.values())


def _owned(model: Any) -> Iterator[tuple[Any, Any]]:
    for layer in model._flatten_layers(include_self=True, recursive=True):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            yield layer, variable


def _unique(variables: list[Any]) -> list[Any]:
    return list({id(v): v for v in variables}.values())


def layers_in_order(model: Any) -> list[Any]:
    """The layers that `model.layers` lists, each once, with nested models opened."""
    found: dict[int, Any] = {}
    for layer in model.layers:
        inside = layers_in_order(layer) if isinstance(layer, keras.Model) else [layer]
        found.update((id(leaf), leaf) for leaf in inside)
    return list(found.values())


def normalized_variables(model: Any) -> set[int]:
    """The ids of the weights of layers whose output always meets a normalization layer.

    That is where every way through the graph, from the layer to the outputs of `model`,
    passes one: the scale of the weights then has no, or little, effect on the outputs.

    Raises:
        ValueError: a model without a graph (neither Functional nor Sequential).
    """
    passed: set[int] = set()
    _pass_back(model, passed)
    layers = [layer for layer in layers_in_order(model) if id(layer) not in passed]
    return {id(variable) for layer in layers for variable in layer.weights}


def _pass_back(model: Any, passed: set[int]) -> bool:
    """Walks from the outputs back, up to normalization; True if it reaches an input."""
    if isinstance(model, keras.Sequential):
        return all(_goes_on(layer, passed) for layer in reversed(model.layers))
    if not getattr(model, "outputs", None):
        raise ValueError(f"{model.name} has no graph of layers")
    waiting = [_node(tensor) for tensor in model.outputs]
    seen, reached = set(waiting), False
    while waiting:
        node = waiting.pop()
        if node.is_input:
            reached = True
        elif _goes_on(node.operation, passed):
            parents = [parent for parent in node.parent_nodes if parent not in seen]
            seen.update(parents)
            waiting += parents
    return reached


def _goes_on(operation: Any, passed: set[int]) -> bool:
    if isinstance(operation, NORMALIZATION_LAYERS):
        return False
    passed.add(id(operation))
    return _pass_back(operation, passed) if isinstance(operation, keras.Model) else True


def _node(tensor: Any) -> Any:
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]
