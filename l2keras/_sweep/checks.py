"""What `sweep` refuses among its arguments, before it builds anything."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
from keras.optimizers.schedules import LearningRateSchedule

from l2keras import _validation, masks
from l2keras._keras import optimizers
from l2keras._sweep.members import COUPLINGS, Member
from l2keras._sweep.optimizer import check_elementwise


def check_builder(build_model: Any) -> None:
    """Raises TypeError for a model where a function that builds one is expected."""
    if callable(build_model) and not isinstance(build_model, keras.Layer):
        return
    raise TypeError(
        _validation.error(
            "`build_model` must be a function without arguments that returns a Keras model.",
            f"{type(build_model).__name__}",
            "Put what builds the model into a function, and pass that.",
        )
    )


def check_optimizer(optimizer: Any, coupling: str) -> Any:
    """The Keras optimizer that is meant, if its members can share a step."""
    try:
        found = keras.optimizers.get(optimizer)
    except Exception:  # Keras raises several
        found = None
    if not isinstance(found, keras.optimizers.Optimizer):
        raise TypeError(
            _validation.error(
                "`optimizer` must be a Keras optimizer, or a name or config of one.",
                f"optimizer={_validation.shown(optimizer)}",
                'Pass keras.optimizers.SGD(learning_rate=0.1), or "sgd".',
            )
        )
    check_elementwise(found)
    _validation.check_choice(coupling, "coupling", COUPLINGS)
    optimizers.check_supported(found, "coupled" if coupling == "penalty" else coupling)
    return found


def check_members(
    lam: Any, seeds: Any, learning_rates: Any, optimizer: Any, coupling: str
) -> list[Member]:
    """A member for each (lam, learning rate, seed)."""
    remedy = "Pass a float, or a list of floats."
    lams = [_validation.check_lam(one, "lam", remedy) for one in _listed(lam, "lam")]
    numbers = [_check_seed(seed) for seed in _listed(seeds, "seeds")]
    if learning_rates is None:
        rates = [_own_rate(optimizer)]
    else:
        rates = [_check_rate(rate) for rate in _listed(learning_rates, "learning_rates")]
    return [
        Member(
            lam, seed, rate, coupling, _peak(optimizer, rate) if coupling == "independent" else 1
        )
        for lam, rate, seed in itertools.product(lams, rates, numbers)
    ]


def _listed(values: Any, name: str) -> list[Any]:
    """The values of a sequence, or the one value."""
    try:
        if len(getattr(values, "shape", ())) > 0:
            values = list(keras.ops.convert_to_numpy(values))
        listed = list(values) if isinstance(values, (list, tuple, range)) else [values]
    except Exception:  # whatever the code of the value raises
        listed = [values]
    if not listed:
        raise ValueError(
            _validation.error(f"`{name}` must name at least one.", f"{name}=[]", "Pass one.")
        )
    return listed


def _check_seed(seed: Any) -> int:
    number = _validation.as_int(seed)
    if number is None or not 0 <= number < 2**32:
        raise ValueError(
            _validation.error(
                "`seeds` must be ints from 0 to 2 ** 32 - 1.",
                _validation.shown(seed),
                "Pass seeds=(0, 1, 2).",
            )
        )
    return number


def _own_rate(optimizer: Any) -> Any:
    source = optimizers.learning_rate_source(optimizer)
    if isinstance(source, LearningRateSchedule):
        return source
    if not isinstance(source, keras.Variable):
        raise ValueError(
            _validation.error(
                "`sweep` needs a learning rate that is a float or a LearningRateSchedule.",
                f"learning_rate={_validation.shown(source)}",
                "Pass learning_rates=, or a schedule.",
            )
        )
    return float(optimizer.learning_rate)


def _check_rate(rate: Any) -> Any:
    if isinstance(rate, LearningRateSchedule):
        return rate
    return _validation.check_positive(rate, "learning_rates", "Pass floats or Keras schedules.")


def _peak(optimizer: Any, rate: Any) -> float:
    copy = type(optimizer).from_config(optimizers.config_with(optimizer, rate))
    return optimizers.peak_learning_rate(copy)


def check_count(value: Any, name: str) -> int:
    return _validation.check_count(value, name, "Pass a positive int.")


def check_budget(value: Any) -> int | None:
    """Bytes, or None for the default."""
    remedy = "Pass bytes, such as 4 * 2**30."
    return None if value is None else _validation.check_count(value, "memory_budget", remedy)


def check_verbose(value: Any) -> int:
    """How `keras.utils.Progbar` shows progress: 0, 1 or 2; "auto" is 1, as in `fit`."""
    number = 1 if isinstance(value, str) and value == "auto" else _validation.as_int(value)
    if value is True or value is False:
        number = int(value)
    if number not in (0, 1, 2):
        raise ValueError(
            _validation.error(
                "`verbose` must be 0, 1 or 2.",
                f"verbose={_validation.shown(value)}",
                "Pass 1 for a progress bar, 0 for none.",
            )
        )
    return number


def check_compiled(value: Any, name: str) -> None:
    """Raises TypeError for what `compile` takes neither as a loss nor as metrics."""
    several = isinstance(value, (str, list, tuple, dict))
    if value is None or callable(value) or (several and (value or name != "loss")):
        return
    raise TypeError(
        _validation.error(
            f"`{name}` must be as `compile` takes it: a name, a function or an object of Keras.",
            f"{name}={_validation.shown(value)} of type {type(value).__name__}",
            f'Pass {name}="mse", or {name}=keras.losses.MeanSquaredError().'
            if name == "loss"
            else f'Pass {name}=["mae"], or leave it out.',
        )
    )


def check_early_stopping(callback: Any) -> None:
    """Raises TypeError for another callback."""
    if callback is None or isinstance(callback, keras.callbacks.EarlyStopping):
        return
    raise TypeError(
        _validation.error(
            "`early_stopping` must be a keras.callbacks.EarlyStopping.",
            f"early_stopping={_validation.shown(callback)}",
            "Other callbacks have no single model to act on here.",
        )
    )


def check_patterns(include: masks.Patterns, exclude: masks.Patterns) -> None:
    masks.check_patterns(include, "include")
    masks.check_patterns(exclude, "exclude")


def check_data(x: Any, y: Any, validation_data: Any) -> None:
    """Raises unless all are arrays, each pair with one number of examples."""
    _check_lengths(x, y)
    if validation_data is None:
        return
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
        raise ValueError(
            _validation.error(
                "`validation_data` must be (x, y).",
                _described(validation_data),
                "Pass arrays for a dataset; put sample weights into the loss, as a function of y.",
            )
        )
    test_x, test_y = validation_data
    _check_lengths(test_x, test_y, " of validation_data")


def _check_lengths(x: Any, y: Any, of: str = "") -> None:
    for name, part in (("x", x), ("y", y)):
        leaves = _leaves(part)
        others = [leaf for leaf in leaves if not _is_array(leaf)]
        if others or not leaves:
            raise TypeError(
                _validation.error(
                    f"`{name}{of}` must be an array, or a nested structure of arrays.",
                    _described(others[0] if len(others) < len(leaves) else part),
                    "Convert lists with numpy.asarray, sparse matrices with toarray(); collect a "
                    "dataset or generator into arrays.",
                )
            )
    lengths = sorted({int(array.shape[0]) for array in keras.tree.flatten((x, y))})
    if len(lengths) != 1 or lengths[0] == 0:
        raise ValueError(
            _validation.error(
                f"`x and y{of}` must have the same number of examples, one or more.",
                f"{lengths} along the first axes",
                "Check x.shape and y.shape.",
            )
        )


def _leaves(part: Any) -> list[Any]:
    try:
        return list(keras.tree.flatten(part))
    except Exception:  # for a dict whose keys have no order
        return [part]


def _is_array(value: Any) -> bool:
    """Of one axis or more, of numbers; neither a sparse matrix nor symbolic."""
    try:
        dense = hasattr(value, "__array__") or keras.ops.is_tensor(value)
        return dense and int(value.shape[0]) >= 0 and _as_array(value[:1]).dtype.kind not in "OSUMm"
    except Exception:  # whatever the code of the value raises
        return False


def _described(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    kind = type(value).__name__
    if value is None or hasattr(type(value), "__array__"):
        return f"{_validation.shown(value)} of type {kind}"
    return kind


def _as_array(array: Any) -> Any:
    return np.asarray(keras.ops.convert_to_numpy(array) if keras.ops.is_tensor(array) else array)


def as_arrays(data: Any) -> Any:
    """NumPy arrays, floats in floatx, as `fit` makes them."""
    floatx = keras.config.floatx()

    def one(array: Any) -> Any:
        array = _as_array(array)
        return array.astype(floatx) if array.dtype.kind == "f" else array

    return keras.tree.map_structure(one, data)
