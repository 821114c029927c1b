"""How much of a loss is penalty, whatever was done with the penalties: by differentiation.

The penalties p_1, ..., p_n enter a loss that is linear in them as sum(c_i * p_i), and c_i is the
derivative of the loss with respect to p_i. The derivatives run through the operations that add
up the loss only, not through the model, and change neither the loss nor its gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from l2keras._keras.losses import collected, stateless_scope


def loss_and_penalty(
    compute_loss: Callable[[], Any], model: Any, earlier: Sequence[Any]
) -> tuple[Any, Any]:
    """Calls `compute_loss` and takes the derivative of the loss with respect to its penalties.

    Args:
        compute_loss: Returns the loss.
        model: Its model.
        earlier: On JAX, the penalties that the step evaluated before. Elsewhere unused.

    Returns:
        The loss, and the scalar penalty in it; None where that is unknown, and nan where the
        loss is not linear on JAX.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return _on_jax(compute_loss, model, earlier)
    loss, factors, penalties = (_on_torch if backend == "torch" else _on_tensorflow)(compute_loss)
    return loss, None if factors is None else _weighted_sum(factors, penalties)


def _weighted_sum(factors: Sequence[Any], penalties: Sequence[Any]) -> Any:
    """None as a factor: the loss does not depend on this penalty."""
    dtype = keras.config.floatx()
    total = ops.zeros((), dtype)
    for factor, penalty in zip(factors, penalties, strict=True):
        if factor is not None:
            total = total + ops.sum(ops.cast(factor, dtype) * ops.cast(penalty, dtype))
    return ops.stop_gradient(total)


def _on_tensorflow(compute_loss: Callable[[], Any]) -> tuple[Any, list[Any] | None, list[Any]]:
    import tensorflow as tf

    penalties: list[Any] = []
    first, second = (tf.GradientTape(watch_accessed_variables=False) for _ in range(2))

    def collect(values: Sequence[Any]) -> list[Any]:
        for value in filter(tf.is_tensor, values):
            penalties.append(value)
            first.watch(value)
            second.watch(value)
        return list(values)

    with second:
        with first, collected(collect):
            loss = compute_loss()
        graphs = {id(getattr(tensor, "graph", None)) for tensor in (loss, *penalties)}
        if not tf.is_tensor(loss) or loss.shape.rank != 0 or len(graphs) > 1:
            return loss, None, []  # evaluated inside a tf.function of its own, say
        try:
            factors = first.gradient(loss, penalties)
        except Exception:  # an operation without a gradient
            return loss, None, []
    bent = second.gradient([one for one in factors if one is not None], penalties)
    return loss, None if any(one is not None for one in bent) else factors, penalties


def _on_torch(compute_loss: Callable[[], Any]) -> tuple[Any, list[Any] | None, list[Any]]:
    import torch

    penalties: list[Any] = []
    is_training = torch.is_grad_enabled()

    def collect(values: Sequence[Any]) -> list[Any]:
        found = list(values)
        if not is_training:
            found = [value.detach().requires_grad_() for value in values]
        penalties.extend(value for value in found if value.requires_grad)
        return found

    def gradient(tensors: Sequence[Any]) -> list[Any]:
        dependent = [tensor.sum() for tensor in tensors if tensor.requires_grad]
        if not dependent or not penalties:
            return [None] * len(penalties)
        total = torch.stack(dependent).sum()
        return list(torch.autograd.grad(total, penalties, create_graph=True, allow_unused=True))

    with torch.enable_grad():
        with collected(collect):
            loss = compute_loss()
        returned = loss if is_training or not torch.is_tensor(loss) else loss.detach()
        if not torch.is_tensor(loss) or loss.ndim != 0:
            return returned, None, []
        try:
            factors = gradient([loss])
            bent = gradient([one for one in factors if one is not None])
        except RuntimeError:  # an operation without a gradient
            return returned, None, []
    return returned, None if any(one is not None for one in bent) else factors, penalties


def _on_jax(compute_loss: Callable[[], Any], model: Any, earlier: Sequence[Any]) -> tuple[Any, Any]:
    """Multiplies the penalties by 1, and differentiates with respect to that 1."""
    scope = stateless_scope()
    override = model._losses_override
    known = {id(value) for value in override}
    if scope is None or any(id(value) not in known for value in earlier):
        return compute_loss(), None
    state, attributes = dict(scope.state_mapping), dict(vars(model))
    penalties = {id(value) for value in earlier}
    try:
        loss, penalty, state, attributes = _differentiated(
            compute_loss, model, scope, override, penalties
        )
    except Exception:  # not differentiable in this way; an error of the user's own comes again
        loss = penalty = None
    finally:
        scope.state_mapping.clear()
        scope.state_mapping.update(state)
        vars(model).update(attributes)
        vars(model)["_losses_override"] = override
    return (compute_loss() if penalty is None else loss), penalty


def _differentiated(
    compute_loss: Callable[[], Any], model: Any, scope: Any, override: Any, penalties: set[int]
) -> tuple[Any, Any, dict[int, Any], dict[str, Any]]:
    """The loss, the penalty in it, and the state and attributes that `compute_loss` has set."""
    import jax

    multiplied: list[Any] = []

    def scaled(values: Sequence[Any], one: Any) -> list[Any]:
        multiplied.extend(values)
        return [value * one.astype(value.dtype) for value in values]

    def loss_at(one: Any) -> tuple[Any, Any]:
        multiplied.clear()
        vars(model)["_losses_override"] = [
            scaled([value], one)[0] if id(value) in penalties else value for value in override
        ]
        with collected(lambda values: scaled(values, one)):
            loss = compute_loss()
        if jax.numpy.shape(loss) != ():
            raise TypeError
        # Values that depend on `one` must leave this function through its end.
        traced = {k: v for k, v in vars(model).items() if isinstance(v, jax.core.Tracer)}
        lowest = jax.numpy.stack([jax.numpy.min(value) for value in multiplied] or [0.0]).min()
        return loss, (dict(scope.state_mapping), traced, lowest)

    def slope_at(one: Any) -> tuple[tuple[Any, Any], Any]:
        loss, slope, state = jax.jvp(loss_at, (one,), (jax.numpy.ones(()),), has_aux=True)
        return (loss, slope), state

    one = jax.numpy.ones(())
    primal, (_, bend), (state, traced, lowest) = jax.jvp(slope_at, (one,), (one,), has_aux=True)
    loss, slope = primal
    # An absolute value has no second derivative, but turns the sign of the penalties.
    is_linear = (bend == 0) & ((slope >= 0) | (lowest < 0))
    slope = jax.numpy.where(is_linear, slope, jax.numpy.nan)
    return loss, jax.lax.stop_gradient(slope), state, traced
