"""Names of losses and metrics, read from the source of Keras: it is not imported."""

from __future__ import annotations

import ast
import difflib
import functools
import re

from l2keras_experiments.config import targets
from l2keras_experiments.config.schema import ConfigError

_ACCURACY = ("accuracy", "acc")  # in any case, by `compile`


def check_name(key: str, kind: str, name: str) -> None:
    """Raises ConfigError for a name that `keras.losses.get` or `keras.metrics.get` does not take.

    Args:
        key: Dotted, for the error.
        kind: "losses" or "metrics".
        name: Of a loss or a metric.
    """
    known = names(kind)
    if not known or name in known or (kind == "metrics" and name.lower() in _ACCURACY):
        return
    valid = {*known, *_ACCURACY} if kind == "metrics" else known
    alike = sorted(word for word in valid if word.islower() == name.islower())
    near = difflib.get_close_matches(name, alike, n=1, cutoff=0.5)
    raise ConfigError(
        f"`{key}` must be a name of keras.{kind}, or have a `_target_`. Received: {key}={name}. "
        f"{f'Did you mean {near[0]}?' if near else f'The names are at keras.io/api/{kind}.'}"
    )


@functools.cache
def names(kind: str) -> frozenset[str]:
    """The names in `keras.src.KIND.ALL_OBJECTS_DICT`; none where the source has another form."""
    tree = targets.tree_of(f"keras.src.{kind}")
    found: set[str] = set()
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ALL_OBJECTS":
            objects = node.value.elts if isinstance(node.value, ast.Set) else []
            found |= {one.id for one in objects if isinstance(one, ast.Name)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "ALL_OBJECTS_DICT.update":
            [added] = node.args
            if isinstance(added, ast.DictComp):
                found |= set(map(_snake_case, found))
            elif isinstance(added, ast.Dict):
                found |= {str(k.value) for k in added.keys if isinstance(k, ast.Constant)}
    return frozenset(found)


def _snake_case(name: str) -> str:
    """As keras.src.utils.naming."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
