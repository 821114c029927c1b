"""The only place that touches the internals of Keras optimizers.

One hook serves every coupling: `Optimizer._backend_update_step(grads, variables,
learning_rate)` is called inside the compiled step, once per real update, with the gradient
unscaled, accumulated and clipped, and the variables still at W_t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
from keras.optimizers import schedules

from l2keras import _validation, penalties

# (optimizer, grads, variables, learning_rate, update), in the place of
# update(grads, variables, learning_rate); called while the step is traced.
StepHook = Callable[[Any, Sequence[Any], Sequence[Any], Any, Callable[..., Any]], None]

# (value of a variable, arguments) -> its new value
Rewriting = Callable[[Any, Any], Any]

_HOOKED = "_backend_update_step"

# Optimizers that do not step from W itself, so that scaling W is undone or distorted.
_NOT_DECOUPLED = {
    "Ftrl": "it recomputes W from its accumulators at every step, so a scaled W is overwritten; "
    "pass Ftrl(l2_regularization_strength=...)",
    "ScheduleFreeAdamW": "W is an interpolation of two hidden sequences, so scaling it is partly "
    "undone by the next step",
}


def inner_optimizers(optimizer: Any) -> list[Any]:
    """The optimizers that update variables: LossScaleOptimizer and MultiOptimizer unwrapped."""
    if hasattr(optimizer, "inner_optimizer"):
        return inner_optimizers(optimizer.inner_optimizer)
    if hasattr(optimizer, "optimizers"):
        return list(optimizer.optimizers)
    return [optimizer]


def updates_done(optimizer: Any) -> int:
    """How many updates the optimizer has made; `int` takes no variable of several replicas."""
    return int(keras.ops.convert_to_numpy(optimizer.iterations + 0))


def has_schedule(optimizer: Any) -> bool:
    """Whether its learning rate follows a schedule, so that nobody may set it."""
    return isinstance(optimizer._learning_rate, schedules.LearningRateSchedule)


def settable_learning_rate(optimizer: Any) -> float | None:
    """The learning rate that is set now; None while JAX has taken the value out of the variable."""
    rate = optimizer._learning_rate
    if isinstance(rate, keras.Variable):
        value = rate._value
        return None if value is None else float(keras.ops.convert_to_numpy(value))
    return None if callable(rate) else float(rate)


def find_members(optimizer: Any, model: Any) -> None:
    """Builds a MultiOptimizer that asks a function for its members, so that they are known.

    Raises:
        ValueError: the model has no variables yet to ask the function about.
    """
    multi = getattr(optimizer, "inner_optimizer", optimizer)
    if not hasattr(multi, "optimizers") or optimizer.built:
        return
    if model.built:
        optimizer.build(model.trainable_variables)
    elif not multi.optimizers:
        raise ValueError(
            _validation.error(
                "`WeightDecay` needs to know the members of a MultiOptimizer when `fit` begins.",
                "a MultiOptimizer with a function and a model without variables",
                "Build the model first, with keras.Input or model.build, or use an OptimizerMap.",
            )
        )


def build_for_jax(model: Any) -> None:
    """Builds an optimizer that was set in mid-fit, as `fit` does when it begins.

    On JAX a step takes the optimizer's variables as arguments; elsewhere its first update builds.
    """
    optimizer = getattr(model, "optimizer", None)
    if keras.backend.backend() == "jax" and optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)


def must_have_updated(optimizer: Any) -> bool:
    """False where an epoch may pass without an update: steps skipped, or still accumulating."""
    if inner_optimizers(optimizer)[0] is not optimizer:
        return False
    return not optimizer.gradient_accumulation_steps or updates_done(optimizer) > 0


def check_supported(optimizer: Any, coupling: str) -> None:
    """Raises ValueError where decay would be applied twice, or could not be exact."""
    check_no_decay(optimizer)
    for inner in inner_optimizers(optimizer):
        name = type(inner).__name__
        reason = _NOT_DECOUPLED.get(name)
        if reason and coupling != "coupled":
            raise ValueError(
                _validation.error(
                    f'`{name}` cannot take coupling="{coupling}": {reason}.',
                    f"optimizer={name}",
                    'Use another optimizer, HalfL2, or coupling="coupled".',
                )
            )


def check_no_decay(optimizer: Any, where: str = "") -> None:
    """Raises ValueError where the optimizer, or a member of it, decays weights by itself.

    Args:
        optimizer: A Keras optimizer.
        where: Added to what the message says of the optimizer.
    """
    for inner in inner_optimizers(optimizer):
        name = type(inner).__name__
        for attribute in ("weight_decay", "adam_weight_decay"):
            if getattr(inner, attribute, None):
                raise ValueError(_decayed_twice(inner, name, attribute, where))


def _decayed_twice(optimizer: Any, name: str, attribute: str, where: str) -> str:
    remedy = {"AdamW": "Use keras.optimizers.Adam instead", "Muon": f"Pass Muon({attribute}=None)"}
    return _validation.error(
        "`WeightDecay` needs an optimizer without weight decay of its own: decay would be "
        "applied twice.",
        f"{name}({attribute}={getattr(optimizer, attribute)!r}){where}",
        remedy.get(name, f"Pass {name}({attribute}=None)") + ", or drop the callback.",
    )


@contextmanager
def hooked(optimizers: Sequence[Any], hook: StepHook) -> Iterator[None]:
    """Runs `hook` around every update that is traced or executed inside the block.

    The hook lives in the instance's `__dict__` for the duration of the block only, so no
    exception, checkpoint or later `fit` can meet it.
    """
    with ExitStack() as stack:
        for optimizer in optimizers:
            attributes = vars(optimizer)
            outer = attributes.get(_HOOKED)  # of a block around this one
            hooked_step = _with_hook(optimizer, getattr(optimizer, _HOOKED), hook)
            stack.callback(_put_back, attributes, outer)
            attributes[_HOOKED] = hooked_step
        yield


def _put_back(attributes: dict[str, Any], outer: Any) -> None:
    attributes.pop(_HOOKED, None)
    if outer is not None:
        attributes[_HOOKED] = outer


def _with_hook(optimizer: Any, update_step: Callable[..., Any], hook: StepHook) -> Any:
    def backend_update_step(grads: Any, variables: Any, learning_rate: Any) -> None:
        hook(optimizer, grads, variables, learning_rate, update_step)

    return backend_update_step


def updates_each_alone(optimizer: Any) -> bool:
    """Whether an update of some variables, then of the others, is one of all of them.

    Keras' own update goes from variable to variable; an optimizer with an update of its own may
    keep something for all, as Nadam its product of momenta.
    """
    own, keras_own = (getattr(kind, _HOOKED) for kind in (type(optimizer), keras.optimizers.SGD))
    return own is keras_own


def rewrite(optimizer: Any, rewriting: Rewriting, pairs: Sequence[tuple[Any, Any]]) -> None:
    """W <- rewriting(W, arguments) for each (variable, arguments); on every replica.

    `rewriting` takes the value of a variable as a tensor, and returns one.
    """
    if not pairs:
        return
    backend = keras.backend.backend()
    if backend == "tensorflow":
        _rewrite_tensorflow(optimizer, rewriting, pairs)
    elif backend == "torch":
        _rewrite_torch(rewriting, pairs)
    else:
        for variable, arguments in pairs:
            variable.assign(rewriting(variable.value, arguments))


def _rewrite_tensorflow(
    optimizer: Any, rewriting: Rewriting, pairs: Sequence[tuple[Any, Any]]
) -> None:
    import tensorflow as tf

    def assign(variable: Any, arguments: Any) -> Any:
        return variable.assign(rewriting(variable, arguments))

    def update(distribution: Any, pairs: Sequence[tuple[Any, Any]]) -> None:
        for variable, arguments in pairs:
            distribution.extended.update(variable.value, assign, args=(arguments,), group=False)

    tf.__internal__.distribute.interim.maybe_merge_call(
        update, optimizer._distribution_strategy, list(pairs)
    )


def _rewrite_torch(rewriting: Rewriting, pairs: Sequence[tuple[Any, Any]]) -> None:
    import torch

    with torch.no_grad():
        for variable, arguments in pairs:
            variable.value.copy_(rewriting(variable.value, arguments))


def scale_on_torch(variables: Sequence[Any], factor: Any) -> None:
    """W <- factor * W for all of `variables`, in place and in one call, as Keras does there."""
    import torch

    with torch.no_grad():
        torch._foreach_mul_([variable.value.data for variable in variables], factor)


def after_gradients(learning_rate: Any, grads: Sequence[Any]) -> Any:
    """The learning rate, as a tensor that there is only where the gradients are.

    At the end of a dataset of unknown length TensorFlow runs what does not depend on the batch
    that never came: without this, decay; `optimizer.iterations` counts on in any case.
    """
    rate = keras.ops.convert_to_tensor(learning_rate)
    if keras.backend.backend() != "tensorflow":
        return rate
    import tensorflow as tf

    with tf.control_dependencies([getattr(grad, "values", grad) for grad in grads]):
        return tf.identity(rate)


def snapshot(variable: Any) -> Any:
    """The value of the variable now, which no later update changes."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.identity(variable.value)
    return variable.value.detach().clone() if backend == "torch" else variable.value


def root_mean_second_moment(optimizer: Any) -> Any:
    """sqrt(mean(v_hat)) over all the elements of all variables; a scalar, float32 or better.

    v_hat is the second moment of Adam and its like, after the update and bias-corrected.
    """
    amsgrad = getattr(optimizer, "amsgrad", False)
    moments = optimizer._velocity_hats if amsgrad else optimizer._velocities
    moments = [moment for moment in moments if moment is not None]
    size = sum(math.prod(moment.shape) for moment in moments)
    dtype = penalties.accumulation_dtype(keras.config.floatx())
    total = sum(keras.ops.sum(keras.ops.cast(moment, dtype)) for moment in moments)
    power = keras.ops.power(keras.ops.cast(optimizer.beta_2, dtype), optimizer.iterations + 1)
    return keras.ops.sqrt(total / size / (1 - keras.ops.cast(power, dtype)))


def check_second_moment(optimizer: Any) -> None:
    """Raises ValueError unless `optimizer` keeps a bias-corrected `v` for every variable."""
    keepers = (keras.optimizers.Adam, keras.optimizers.Nadam, keras.optimizers.Lamb)
    if not isinstance(optimizer, keepers):
        raise ValueError(
            _validation.error(
                "`stable` divides by the second moment of Adam, Nadam or Lamb.",
                f"optimizer={type(optimizer).__name__}",
                "Use one of these, or leave out stable=True.",
            )
        )


def num_replicas() -> int:
    """How many replicas' gradients TensorFlow will add up after the hook; 1 elsewhere."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return 1 if context is None else int(context.num_replicas_in_sync)


def is_distributed(optimizer: Any) -> bool:
    """Whether TensorFlow keeps a copy of every variable on several replicas."""
    strategy = getattr(optimizer, "_distribution_strategy", None)
    return strategy is not None and strategy.num_replicas_in_sync > 1


def last_learning_rate(optimizer: Any) -> float:
    """The learning rate of the update done last (of the first one, before any update)."""
    rate = optimizer._learning_rate
    if isinstance(rate, schedules.LearningRateSchedule):
        batches = optimizer.iterations * (optimizer.gradient_accumulation_steps or 1)
        return float(rate(keras.ops.maximum(batches - 1, 0)))
    rate = optimizer.learning_rate
    return float(rate.numpy() if isinstance(rate, keras.Variable) else rate)


def current_learning_rate(optimizer: Any) -> float:
    """The learning rate of the next update."""
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def batches(optimizer: Any) -> Any:
    """The variable that schedules are called with: it counts batches, not updates."""
    return optimizer._iterations


def learning_rate_source(optimizer: Any) -> Any:
    """What the learning rate comes from: a variable, a schedule or a callable."""
    return optimizer._learning_rate


def settings_of_schedule(schedule: Any) -> tuple[Any, ...] | None:
    """What a schedule of Keras computes with, which its attributes hold; None for any other."""
    is_schedule = isinstance(schedule, schedules.LearningRateSchedule)
    if not is_schedule or type(schedule).__module__.split(".")[0] != keras.__name__:
        return None
    settings: list[Any] = []
    for name, value in schedule.get_config().items():
        if name != "name":
            settings += [name, *(value if isinstance(value, (list, tuple)) else [value])]
    return tuple(settings)


def config_with(optimizer: Any, learning_rate: Any) -> dict[str, Any]:
    """Its config with another learning rate; its own may be a schedule that has no config."""
    twin = object.__new__(type(optimizer))
    vars(twin).update(vars(optimizer), _learning_rate=None)
    return {**twin.get_config(), "learning_rate": learning_rate}


def peak_learning_rate(optimizer: Any) -> float:
    """The largest learning rate the optimizer will use, where that can be known.

    Raises:
        ValueError: the schedule is not one of Keras', or grows without bound.
    """
    rate = optimizer._learning_rate
    if not isinstance(rate, schedules.LearningRateSchedule):
        peak = last_learning_rate(optimizer)
    else:
        peak = peak_of_schedule(rate)
    if not peak > 0:
        raise ValueError(_unknown_peak(rate, "has no positive peak"))
    return peak


def peak_of_schedule(schedule: Any) -> float:
    """The largest value of a schedule of Keras; raises ValueError where it is not known."""
    if type(schedule).__module__.split(".")[0] != "keras":
        raise ValueError(_unknown_peak(schedule, "is not one of keras.optimizers.schedules"))
    config = schedule.get_config()
    growth = config.get("m_mul", 0.0)  # of CosineDecayRestarts
    if isinstance(schedule, schedules.ExponentialDecay):
        growth = config["decay_rate"]
    if growth > 1:
        raise ValueError(_unknown_peak(schedule, "grows"))
    rates = [config.get(key) for key in ("initial_learning_rate", "end_learning_rate")]
    rates += [config.get("warmup_target"), *config.get("values", [])]
    top = max(float(rate) for rate in rates if rate is not None)
    return top * max(1.0, float(config.get("alpha", 0.0)))


def _unknown_peak(schedule: Any, why: str) -> str:
    return _validation.error(
        'coupling="independent" divides by the peak of the learning rate, which must be known.',
        f"learning_rate={schedule!r}, which {why}",
        "Pass peak_learning_rate=.",
    )
