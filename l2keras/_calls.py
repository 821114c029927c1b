"""Calls that do not have the signature of a function: the error says what to write."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from l2keras import _validation

P = ParamSpec("P")
R = TypeVar("R")

# Names that other libraries give to an argument, for each argument here.
_ALIASES = {
    "lam": "wd weight_decay weight_decay_rate l2 l2_reg lambda_ lamda lmbda lambd lams lambdas "
    "decay reg alpha strength factor coefficient regularization",
    "coupling": "mode kind",
    "include": "only layers variables var_list params",
    "exclude": "exclude_from_weight_decay var_names exclude_from skip",
    "learning_rate": "lr eta rate",
    "learning_rates": "lr lrs eta learning_rate rate",
    "peak_learning_rate": "peak_lr max_lr peak",
    "batch_size": "batch bs",
    "num_samples": "n_samples samples n",
    "num_steps": "total_iterations steps",
    "steps_per_epoch": "steps",
    "epochs": "num_epochs n_epochs nb_epoch epoch",
    "seeds": "seed random_state",
    "build_model": "model model_fn build_fn build model_builder",
    "validation_data": "val_data validation valid",
    "early_stopping": "callbacks patience stopping",
    "metrics": "metric",
    "toward": "anchor anchors",
    "layer_decay": "llrd",
    "regularizer": "kernel_regularizer reg penalty",
    "model": "net network",
    "optimizer": "opt",
    "source": "from_ src frm origin",
    "target": "to dst destination",
    "value": "lam c coefficient weight_decay",
}
# What a remedy writes for an argument that is missing.
_EXAMPLES = {
    "lam": "1e-4",
    "value": "1e-4",
    "epochs": "10",
    "steps_per_epoch": "100",
    "learning_rate": "0.1",
    "source": '"torch.SGD"',
    "target": '"keras.L2"',
    "loss": '"mse"',
    "path": '"mlp/head/kernel"',
    "i": "0",
}
_MISSING: Any = object()


class _Text(str):
    """What stands in a call as it is."""


def explained(
    name: str, instead: Mapping[str, str] | None = None, remedy: str = ""
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator that words the TypeError of a call with wrong, missing or too many arguments.

    The signature stays that of the function, for `help` and `inspect.signature`.

    Args:
        name: As users write it, such as "HalfL2".
        instead: For keywords without a namesake here, the remedy.
        remedy: For every wrong call, in the place of the right one.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except TypeError:
                wrong = _wrong_call(name, signature, args, kwargs, instead or {}, remedy)
                if wrong is None:
                    raise
            raise TypeError(wrong)

        return call

    return decorate


def _wrong_call(
    name: str,
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    instead: Mapping[str, str],
    remedy: str,
) -> str | None:
    """The message for a call that the signature does not take; None for one that it takes."""
    try:
        signature.bind(*args, **kwargs)
        return None
    except TypeError:
        pass
    parameters = dict(signature.parameters)
    if parameters.pop("self", None) is not None:
        args = args[1:]
    named = list(parameters)
    unknown = {key: value for key, value in kwargs.items() if key not in parameters}
    meant = dict(zip(named, args, strict=False))
    call = _written(name, parameters, {**meant, **_renamed(kwargs, named)})
    if unknown:
        expected = f"`{name}` has no argument {' or '.join(f'`{key}`' for key in unknown)}."
        remedy = remedy or _remedy(unknown, named, instead, call)
        return _validation.error(expected, _listed(unknown), remedy)
    by_place = [one for one in parameters.values() if one.kind is not one.KEYWORD_ONLY]
    remedy = remedy or f"Write {call}."
    if len(args) > len(by_place):
        expected = f"`{name}` takes {_count(len(by_place))} without a name."
        rest = ", ".join(map(_validation.shown, args[len(by_place) :]))
        return _validation.error(expected, f"{rest} in addition", remedy)
    twice = {key: kwargs[key] for key in meant if key in kwargs}
    if twice:
        expected = f"`{name}` takes each argument once."
        return _validation.error(expected, f"{_listed(twice)} in addition", remedy)
    needed = [key for key, one in parameters.items() if one.default is one.empty]
    missing = [f"`{key}`" for key in needed if key not in meant and key not in kwargs]
    return _validation.error(
        f"`{name}` needs {', '.join(missing)}.", f"no {', no '.join(missing)}", remedy
    )


def _count(places: int) -> str:
    return {0: "no argument", 1: "one argument"}.get(places, f"{places} arguments")


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_validation.shown(value)}" for key, value in arguments.items())


def _remedy(
    unknown: Mapping[str, Any], named: list[str], instead: Mapping[str, str], call: str
) -> str:
    special = [instead[key] for key in unknown if key in instead]
    if special:
        return " ".join(special)
    if "l2" in unknown and "lam" in named:
        l2 = _validation.shown(unknown["l2"])
        gradient = f"keras.regularizers.L2(l2={l2}) has the gradient 2 * {l2} * W"
        return f"{gradient}: write {call} for the same penalty."
    if all(_meant(key, named) for key in unknown):
        return f"Write {call}."
    return f"Its arguments are {', '.join(named)}." if named else f"Write {call}."


def _renamed(kwargs: Mapping[str, Any], named: list[str]) -> dict[str, Any]:
    """The keywords under the names that they have here, without those that have none."""
    renamed: dict[str, Any] = {}
    for key, value in kwargs.items():
        meant = key if key in named else _meant(key, named)
        if meant == "lam" and key == "l2":
            value = 2 * value if type(value) in (int, float) else _Text("2 * l2")
        if meant:
            renamed[meant] = value
    return renamed


def _meant(key: str, named: list[str]) -> str | None:
    """The argument that is meant by `key`: by the names of other libraries, or a slip."""
    known = [one for one in named if key.lower() in _ALIASES.get(one, "").split()]
    return next(iter(known or _validation.nearest(key, named, count=1, cutoff=0.6)), None)


def _written(
    name: str, parameters: Mapping[str, inspect.Parameter], given: Mapping[str, Any]
) -> str:
    """The call as it should be: what is given, and what is needed."""
    places, keywords = [], []
    for key, one in parameters.items():
        needed = one.default is one.empty
        if not needed and key not in given:
            continue
        text = _literal(given.get(key, _MISSING)) or _EXAMPLES.get(key)
        if one.kind is one.KEYWORD_ONLY or not needed:
            keywords.append(f"{key}={text or '...'}")
        else:
            places.append((key, text))
    if all(text for _, text in places):
        keywords = [f"{key}={text}" for key, text in places] + keywords
        places = []
    return f"{name}({', '.join([text or key for key, text in places] + keywords)})"


def _literal(value: Any) -> str | None:
    """How to write a plain value; None for others."""
    if isinstance(value, _Text):
        return value
    plain = isinstance(value, (bool, int, float, str, list, tuple)) or value is None
    text = _validation.shown(value) if plain else ""
    return text if text and len(text) <= 40 else None
