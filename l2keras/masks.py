"""Which variables are decayed: one rule for every feature of the library.

By default kernels and embeddings, of trainable layers: no bias, normalization parameter, gain or
slope, whatever its rank, and nothing of rank < 2. `_roles.py` tells them apart, by the name of the
variable, the class of its layer and its shape; `audit` says for each which it was, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import keras

from l2keras import _validation
from l2keras._keras.variables import ModelVariable, model_variables
from l2keras._roles import role_of

# Callable, but not as predicates on a variable.
_NO_PREDICATES = (type, keras.Layer, keras.regularizers.Regularizer)

Patterns: TypeAlias = str | Callable[[Any], bool] | Sequence[str] | None


def is_decayed_by_default(entry: ModelVariable) -> bool:
    """True for kernels and embeddings."""
    return role_of(entry).decays


def select(model: Any, include: Patterns = None, exclude: Patterns = None) -> list[Any]:
    """The variables of `model` that decay applies to.

    Args:
        model: A built Keras model.
        include: Glob pattern(s) on `variable.path`, or a predicate on the variable, that
            replace the default rule. `*` crosses `/`.
        exclude: The same, taken away from what is included.

    Returns:
        List of trainable Keras variables, in the order of `model.weights`.

    Raises:
        ValueError: a pattern that matches no weight, or a selection that is empty.

    Example:

    >>> import keras
    >>> layer = keras.layers.Dense(3, name="head")
    >>> model = keras.Sequential([keras.Input((4,)), layer], name="mlp")
    >>> [variable.path for variable in select(model)]
    ['mlp/head/kernel']
    """
    if not isinstance(model, keras.Layer):
        received = f"model={_validation.shown(model)} of type {type(model).__name__}"
        remedy = "Pass the model whose variables they are."
        raise TypeError(_validation.error("`select` needs a Keras model.", received, remedy))
    check_patterns(include, "include")
    check_patterns(exclude, "exclude")
    entries = model_variables(model)
    included = _matcher(include, "include", entries) or is_decayed_by_default
    excluded = _matcher(exclude, "exclude", entries) or _nothing
    trainable = [entry for entry in entries if entry.variable.trainable]
    chosen = [entry.variable for entry in trainable if included(entry) and not excluded(entry)]
    if not chosen:
        paths = _validation.listed([entry.path for entry in trainable]) or "none"
        raise ValueError(
            _validation.error(
                "At least one trainable variable must be selected.",
                f"include={_validation.shown(include)}, exclude={_validation.shown(exclude)}",
                f"Choose among the trainable variables of the model: {paths}.",
            )
        )
    return chosen


def matching(model: Any, patterns: Patterns, name: str) -> set[int]:
    """The ids of the weights that `patterns` match; `name` is the argument, for errors.

    Raises:
        ValueError: a pattern that matches no weight.
    """
    entries = model_variables(model)
    matches = _matcher(patterns, name, entries) or _nothing
    return {id(entry.variable) for entry in entries if matches(entry)}


def _nothing(entry: ModelVariable) -> bool:
    return False


def check_patterns(patterns: Patterns, name: str) -> None:
    """Raises TypeError unless `patterns` is None, a glob, a sequence of globs or a predicate."""
    if patterns is None or isinstance(patterns, str):
        return
    if callable(patterns) and not isinstance(patterns, _NO_PREDICATES):
        return
    if isinstance(patterns, (list, tuple)) and all(isinstance(p, str) for p in patterns):
        return
    raise TypeError(
        _validation.error(
            f"`{name}` must be a glob pattern on variable.path, a list of them, or a predicate.",
            f"{name}={_validation.shown(patterns)}",
            f'Write {name}=["*/embeddings"] or {name}=lambda v: "head" in v.path.',
        )
    )


def _matcher(
    patterns: Patterns, name: str, entries: list[ModelVariable]
) -> Callable[[ModelVariable], bool] | None:
    if patterns is None:
        return None
    if callable(patterns):
        return lambda entry: _answer(patterns, name, entry)
    globs = [patterns] if isinstance(patterns, str) else list(patterns)
    for glob in globs:
        _check_matches(glob, name, [entry.path for entry in entries])
    return lambda entry: any(fnmatchcase(entry.path, glob) for glob in globs)


def _answer(predicate: Callable[[Any], bool], name: str, entry: ModelVariable) -> bool:
    try:
        return bool(predicate(entry.variable))
    except Exception as problem:  # whatever the predicate raises
        raise ValueError(
            _validation.error(
                f"`{name}` must be a predicate that answers True or False for every variable.",
                f"{_validation.brief(problem)}, for {entry.path}",
                f'Write {name}=lambda v: "head" in v.path.',
            )
        ) from problem


def _check_matches(glob: str, name: str, paths: list[str]) -> None:
    if any(fnmatchcase(path, glob) for path in paths):
        return
    raise ValueError(
        _validation.error(
            f"Each pattern in `{name}` must match a variable.path of the model.",
            f"{name}={_validation.shown(glob)}, which matches none",
            _validation.pattern_remedy(glob, paths),
        )
    )
