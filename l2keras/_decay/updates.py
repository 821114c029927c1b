"""One update with decay: what happens around the optimizer's own step, for every form.

With s = rate * lam, where rate is eta, eta / eta_peak or eta ** 2 / eta_peak, u the step that
the optimizer takes and M = 1 (or, cautious, where u and W agree in sign),

    W <- W - s * M * (W - anchor) - u
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from l2keras import penalties
from l2keras._decay.rounding import LOW_PRECISION, rounded
from l2keras._decay.rules import Target
from l2keras._keras import cluster, optimizers


def decayed_update(
    targets: Mapping[int, Target],
    optimizer: Any,
    grads: Sequence[Any],
    variables: Sequence[Any],
    learning_rate: Any,
    update: Callable[..., Any],
) -> None:
    """Runs `update(grads, variables, learning_rate)` with the decay of `targets` around it.

    What is fused runs as XLA clusters of the step, the rest as plain operations.
    """

    def decay_and_update(chosen: Sequence[int], grads: Sequence[Any], learning_rate: Any) -> None:
        own = [variables[index] for index in chosen]
        _decay_and_update(targets, optimizer, grads, own, learning_rate, update)

    clusters, rest = _split(targets, optimizer, grads, variables)
    for chosen in clusters:
        run = functools.partial(decay_and_update, chosen)
        cluster.run(run, [grads[index] for index in chosen], learning_rate)
    if rest:
        decay_and_update(rest, [grads[index] for index in rest], learning_rate)


def _split(
    targets: Mapping[int, Target], optimizer: Any, grads: Sequence[Any], variables: Sequence[Any]
) -> tuple[list[list[int]], list[int]]:
    """The indices of the variables of each cluster, and of those that have none.

    A large variable has a cluster of its own; small ones that ask for it share one.
    """
    decayed = [targets.get(id(variable)) for variable in variables]
    if not any(target and target.may_fuse for target in decayed) or not cluster.applies(optimizer):
        return [], list(range(len(variables)))
    large: list[list[int]] = []
    small: list[int] = []
    rest: list[int] = []
    for index, (target, gradient) in enumerate(zip(decayed, grads, strict=True)):
        if target is None or not _fuses(optimizer, target, gradient):
            rest.append(index)
        elif cluster.is_large(target.variable):
            large.append([index])
        else:
            small.append(index)
    return [*large, small] if small else large, rest


def _fuses(optimizer: Any, target: Target, gradient: Any) -> bool:
    """Whether the update of this variable is part of a cluster: asked for, or chosen."""
    if not target.may_fuse or not cluster.is_dense(gradient):
        return False
    return target.rule.fused is True or cluster.pays(optimizer, target.variable)


def _decay_and_update(
    targets: Mapping[int, Target],
    optimizer: Any,
    grads: Sequence[Any],
    variables: Sequence[Any],
    learning_rate: Any,
    update: Callable[..., Any],
) -> None:
    """Decay that needs only W_t comes before the update and costs one pass over the weights."""
    step = _Step(optimizer, optimizers.after_gradients(learning_rate, grads))
    grads = list(grads)
    before: list[tuple[int, Target]] = []
    after: list[tuple[int, Target, Any]] = []
    for index, variable in enumerate(variables):
        target = targets.get(id(variable))
        if target is None:
            continue
        if target.rule.coupling == "coupled":
            grads[index] = ops.add(grads[index], step.penalty_gradient(target))
        elif target.waits:
            after.append((index, target, optimizers.snapshot(variable)))
        elif target.table is not None:
            target.table.decay(grads[index], step.factor(target))
        else:
            before.append((index, target))
    step.shrink(before)
    update(grads, variables, learning_rate)
    step.pull(after)


class _Step:
    """The coefficients of one update; each is computed once."""

    def __init__(self, optimizer: Any, learning_rate: Any) -> None:
        self._optimizer = optimizer
        self._learning_rate = learning_rate
        self._known: dict[Any, tuple[Any, Any]] = {}
        self._factors: dict[Any, Any] = {}

    def penalty_gradient(self, target: Target) -> Any:
        """lam * (W - anchor), divided among the replicas whose gradients will be summed."""
        variable, dtype = target.variable, target.variable.dtype
        lam = _as(target.lam_at(self._optimizer.iterations), dtype) / optimizers.num_replicas()
        return penalties.penalty_gradient(variable, lam, _anchor(target, dtype))

    def factor(self, target: Target) -> Any:
        """1 - rate * lam."""
        key = _key(target)
        if key not in self._factors:
            self._factors[key] = penalties.shrink_factor(*self._rate_and_lam(target))
        return self._factors[key]

    def shrink(self, chosen: Sequence[tuple[int, Target]]) -> None:
        """W <- factor * W, or toward the anchor."""
        pairs = [
            (target.variable, (self.factor(target), self._seed(index, target)))
            for index, target in chosen
            if target.anchor is None
        ]
        if keras.backend.backend() == "torch":
            pairs = _without_those_in_place(pairs)
        optimizers.rewrite(self._optimizer, _scaled, pairs)
        self.pull([(index, target, None) for index, target in chosen if target.anchor is not None])

    def pull(self, chosen: Sequence[tuple[int, Target, Any]]) -> None:
        """W <- W - rate * M * lam * (W_t - anchor), for (index, target, W_t); None where W is."""
        pairs = []
        for index, target, start in chosen:
            rate, lam = self._rate_and_lam(target)
            if target.rule.stable:
                rate = rate * self._stable_scale(_wide(target.variable))
            anchor = _anchor(target, _wide(target.variable))
            seed = self._seed(index, target)
            pairs.append((target.variable, (start, anchor, rate, lam, target.rule.cautious, seed)))
        optimizers.rewrite(self._optimizer, _pulled, pairs)

    def _rate_and_lam(self, target: Target) -> tuple[Any, Any]:
        key, dtype = _key(target), _wide(target.variable)
        if key not in self._known:
            rate = target.rate(ops.cast(self._learning_rate, dtype), self._optimizer)
            self._known[key] = rate, _as(target.lam_at(self._optimizer.iterations), dtype)
        return self._known[key]

    def _stable_scale(self, dtype: Any) -> Any:
        """1 / sqrt(mean(v_hat)); 0 as long as every gradient was zero."""
        root = optimizers.root_mean_second_moment(self._optimizer)
        positive = root > 0
        return ops.cast(ops.where(positive, 1 / ops.where(positive, root, 1), 0), dtype)

    def _seed(self, index: int, target: Target) -> tuple[Any, int] | None:
        """What the rounding of a low-precision variable draws from; another one at every step."""
        low = keras.backend.standardize_dtype(target.variable.dtype) in LOW_PRECISION
        return (self._optimizer.iterations + 0, index) if low else None


def _key(target: Target) -> tuple[Any, ...]:
    """Equal for targets whose coefficients are."""
    dtype = _wide(target.variable)
    return id(target.rule), id(target.lam), target.scale, target.corrected, dtype


def _wide(variable: Any) -> str:
    return penalties.accumulation_dtype(keras.backend.standardize_dtype(variable.dtype))


def _anchor(target: Target, dtype: Any) -> Any:
    return None if target.anchor is None else ops.cast(target.anchor, dtype)


def _without_those_in_place(pairs: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Scales what is not rounded at random, on torch, and returns the rest."""
    alike: dict[int, tuple[Any, list[Any]]] = {}
    for variable, (factor, seed) in pairs:
        if seed is None:
            alike.setdefault(id(factor), (factor, []))[1].append(variable)
    for factor, variables in alike.values():
        optimizers.scale_on_torch(variables, factor)
    return [pair for pair in pairs if pair[1][1] is not None]


def _scaled(value: Any, arguments: Any) -> Any:
    factor, seed = arguments
    dtype = keras.backend.standardize_dtype(value.dtype)
    wide = ops.cast(value, keras.backend.standardize_dtype(factor.dtype))
    return rounded(wide * factor, dtype, seed)


def _pulled(value: Any, arguments: Any) -> Any:
    start, anchor, rate, lam, cautious, seed = arguments
    dtype = keras.backend.standardize_dtype(value.dtype)
    wide_dtype = keras.backend.standardize_dtype(rate.dtype)
    wide = ops.cast(value, wide_dtype)
    start = wide if start is None else ops.cast(start, wide_dtype)
    decay = rate * penalties.penalty_gradient(start, lam, anchor)
    if cautious:
        decay = ops.where((start - wide) * start >= 0, decay, 0.0)
    return rounded(wide - decay, dtype, seed)


def _as(lam: Any, dtype: str) -> Any:
    """A Python float as it is (exact in any dtype), a tensor cast to `dtype`."""
    return lam if isinstance(lam, (int, float)) else ops.cast(lam, dtype)
