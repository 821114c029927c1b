"""What a Keras optimizer decays by itself. Reads its private exclusions and changes nothing.

Beside `optimizers.py`, which acts on optimizers, this module only asks them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras

from l2keras._keras.optimizers import updates_done

_CACHE = "_exclude_from_weight_decay_cache"


def member_of(optimizer: Any, variable: Any) -> Any | None:
    """The optimizer that updates `variable`: the wrapped one, or its member of a MultiOptimizer.

    None where a MultiOptimizer has a function to ask and has not asked it yet: asking would
    make optimizers.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not hasattr(optimizer, "optimizers"):
        return optimizer
    if optimizer.built:
        index = optimizer._var_to_optimizer_idx.get(optimizer._var_key(variable))
        return None if index is None else optimizer.optimizers[index]
    members = optimizer._optimizer_map
    return members(variable) if isinstance(members, keras.optimizers.OptimizerMap) else None


def own_decay(optimizer: Any, variable: Any) -> float:
    """The coefficient with which the optimizer itself decays `variable`; 0.0 where it does not."""
    coefficient, of_adam = coefficients(optimizer)
    if _is_muon(optimizer) and optimizer._should_use_adamw(variable):
        coefficient = of_adam
    return coefficient if coefficient and not excludes(optimizer, variable) else 0.0


def coefficients(optimizer: Any) -> tuple[float, float]:
    """The weight_decay of the optimizer, and the one for those that Muon hands to its Adam."""
    of_adam = optimizer.adam_weight_decay if _is_muon(optimizer) else None
    return float(optimizer.weight_decay or 0.0), float(of_adam or 0.0)


def _is_muon(optimizer: Any) -> bool:
    return hasattr(optimizer, "adam_weight_decay")


def _as_the_step_sees(optimizer: Any, variable: Any) -> Any:
    """On TensorFlow the step asks about the tf.Variable, whose name is another; Muon does not."""
    on_tensorflow = keras.backend.backend() == "tensorflow"
    return variable.value if on_tensorflow and not _is_muon(optimizer) else variable


def excludes(optimizer: Any, variable: Any) -> bool:
    """Keras' own answer, which it would remember for the training step: the memory is put back."""
    attributes = vars(optimizer)
    remembered = attributes.get(_CACHE)
    attributes[_CACHE] = {}
    try:
        return not optimizer._use_weight_decay(_as_the_step_sees(optimizer, variable))
    finally:
        del attributes[_CACHE]
        if remembered is not None:
            attributes[_CACHE] = remembered


def has_exclusions(optimizer: Any) -> bool:
    """True after `exclude_from_weight_decay` with something to exclude."""
    return bool(_listed(optimizer) or _pattern(optimizer))


def _listed(optimizer: Any) -> set[Any]:
    # Keras makes the attributes in exclude_from_weight_decay only
    is_set = "_exclude_from_weight_decay" in vars(optimizer)
    return set(optimizer._exclude_from_weight_decay) if is_set else set()


def _pattern(optimizer: Any) -> str:
    is_set = "_exclude_from_weight_decay_pattern" in vars(optimizer)
    compiled = optimizer._exclude_from_weight_decay_pattern if is_set else None
    return "" if compiled is None else str(compiled.pattern)


def _names(optimizer: Any) -> list[str]:
    """The names given to `exclude_from_weight_decay`, which Keras joins by `|`, sorted."""
    depth, names = 0, [""]
    for token in re.findall(r"\\.|\[.[^\]]*\]|.", _pattern(optimizer)):
        depth += (token == "(") - (token == ")")
        if token == "|" and depth == 0:
            names.append("")
        else:
            names[-1] += token
    return sorted(filter(None, names))


def unmatched_exclusions(optimizer: Any, variables: Sequence[Any]) -> list[str]:
    """What was given to `exclude_from_weight_decay` and matches none of `variables`."""
    seen = [_as_the_step_sees(optimizer, variable).name for variable in variables]
    unmatched = [
        f"var_names={name!r}"
        for name in _names(optimizer)
        if not any(re.search(name, variable_name) for variable_name in seen)
    ]
    strangers = _listed(optimizer) - {optimizer._var_key(variable) for variable in variables}
    if strangers:
        unmatched.append(f"{len(strangers)} of var_list")
    return unmatched


def excluded_too_late(optimizer: Any) -> bool:
    """True where exclusions were set after the last step was traced, which looks at them once.

    Keras remembers every answer that the traced step got; setting exclusions forgets them.
    """
    asked = vars(optimizer).get(_CACHE)
    return has_exclusions(optimizer) and not asked and updates_done(optimizer) > 0


def decay_set_too_late(optimizer: Any) -> bool:
    """True where weight_decay was set after the last step was traced, which then has none.

    A step that decays asks about every variable, and Keras remembers the answers.
    """
    asked = vars(optimizer).get(_CACHE) or has_exclusions(optimizer)
    return any(coefficients(optimizer)) and not asked and updates_done(optimizer) > 0


def decay_may_go_on(optimizer: Any) -> bool:
    """True where a step was traced with a weight_decay, and the optimizer has none now.

    Muon asks in any case.
    """
    asked = vars(optimizer).get(_CACHE) and not _is_muon(optimizer)
    return bool(asked) and optimizer.weight_decay is None
