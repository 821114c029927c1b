"""Walks a model's layers in order, and its graph from the outputs back."""

from __future__ import annotations

from typing import Any

import keras

from l2keras._keras.variables import NORMALIZATION_LAYERS


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
