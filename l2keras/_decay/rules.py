"""What one WeightDecay asks for, and which variables of a model that comes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from l2keras import _validation, masks, penalties
from l2keras._decay.anchors import Anchors
from l2keras._decay.lazy import LazyTable, LazyTables
from l2keras._decay.rounding import LOW_PRECISION
from l2keras._keras import optimizers
from l2keras._keras.graph import layers_in_order, normalized_variables

Lam: TypeAlias = float | Callable[[Any], Any]  # a LearningRateSchedule is such a callable


@dataclass(frozen=True)
class DecayRule:
    """What one WeightDecay callback asks for."""

    lams: tuple[tuple[str, Lam], ...]  # (glob, lam); the first glob that matches counts
    coupling: str
    include: masks.Patterns = None
    exclude: masks.Patterns = None
    # The peak of the learning rate by the id of the optimizer: for independent and corrected decay.
    peaks: Mapping[int, float] = field(default_factory=dict)
    layer_decay: float = 1.0
    corrected: bool | str | Sequence[str] | Callable[[Any], bool] = False
    cautious: bool = False
    stable: bool = False
    anchors: Anchors | None = None
    tables: LazyTables | None = None
    fused: bool | None = None  # None: where it pays

    def targets(self, model: Any) -> list[Target]:
        """The variables of `model` that are decayed, each with its lam.

        Raises:
            ValueError: a pattern that matches nothing, or a form that a variable cannot take.
        """
        chosen = masks.select(model, self.include, self.exclude)
        self._check_precision(chosen)
        lams = self._lams_of(chosen)
        chosen = [variable for variable in chosen if id(variable) in lams]
        scales = self._scales(model, chosen)
        corrected = self._corrected_ids(model, chosen)
        anchors = self.anchors.of(model) if self.anchors else {}
        tables = self.tables.of(model, chosen) if self.tables else {}
        return [
            Target(
                variable=variable,
                rule=self,
                lam=lams[id(variable)],
                scale=scales.get(id(variable), 1.0),
                corrected=id(variable) in corrected,
                anchor=anchors.get(id(variable)),
                table=tables.get(id(variable)),
            )
            for variable in chosen
        ]

    def check_factors(self, members: Sequence[Any]) -> None:
        """Raises ValueError where a step would not leave W a positive part, if that is known."""
        for member in members:
            try:
                peak = optimizers.peak_learning_rate(member)
            except ValueError:
                continue  # a schedule of the user's own: the step checks
            per_lam = rate(self, peak, member, corrected=bool(self.corrected))
            top = max((lam for _, lam in self.lams if isinstance(lam, float)), default=0.0)
            if top * per_lam >= 1:
                raise ValueError(_turned(f"lam={top!r} and {per_lam!r} for the learning rate"))

    def _check_precision(self, chosen: Sequence[Any]) -> None:
        low = [v for v in chosen if keras.backend.standardize_dtype(v.dtype) in LOW_PRECISION]
        if low and self.coupling == "coupled":
            raise ValueError(_lost(low[0]))
        if low and self.cautious:
            raise ValueError(_sign_lost(low[0]))

    def _lams_of(self, chosen: Sequence[Any]) -> dict[int, Lam]:
        lams: dict[int, Lam] = {}
        for glob, lam in self.lams:
            matched = [v for v in chosen if fnmatchcase(v.path, glob)]
            fresh = [v for v in matched if id(v) not in lams]
            if not fresh:
                raise ValueError(_no_lam_for(glob, matched, [v.path for v in chosen]))
            lams |= {id(v): lam for v in fresh}
        return lams

    def _scales(self, model: Any, chosen: Sequence[Any]) -> dict[int, float]:
        """layer_decay ** (number of decayed layers after the variable's own)."""
        if self.layer_decay == 1.0:
            return {}
        ids = {id(variable) for variable in chosen}
        owned = [ids & {id(v) for v in layer.weights} for layer in layers_in_order(model)]
        layers = [variables for variables in owned if variables]
        return {
            variable: self.layer_decay**after
            for after, variables in enumerate(reversed(layers))
            for variable in variables
        }

    def _corrected_ids(self, model: Any, chosen: Sequence[Any]) -> set[int]:
        if self.corrected is False:
            return set()
        if self.corrected is not True:
            found = masks.matching(model, self.corrected, "corrected")
        else:
            try:
                found = normalized_variables(model)
            except ValueError as error:
                raise ValueError(_none_corrected(f"a model where {error}")) from None
        found &= {id(variable) for variable in chosen}
        if not found:
            received = f"corrected={self.corrected!r}, and of the decayed variables none is such"
            raise ValueError(_none_corrected(received))
        return found


@dataclass(frozen=True, eq=False)
class Target:
    """A variable that is decayed, and how."""

    variable: Any
    rule: DecayRule
    lam: Lam
    scale: float  # by depth
    corrected: bool
    anchor: Any | None  # what the weights are pulled toward, if not zero
    table: LazyTable | None

    @property
    def waits(self) -> bool:
        """Whether the decay depends on the optimizer's update, and so has to follow it."""
        return self.rule.cautious or self.rule.stable

    @property
    def may_fuse(self) -> bool:
        """Whether update and decay may be one XLA cluster: neither needs another variable.

        Random rounding stays what it is outside of one.
        """
        low = keras.backend.standardize_dtype(self.variable.dtype) in LOW_PRECISION
        return self.rule.fused is not False and not self.rule.stable and not low

    def lam_at(self, step: Any) -> Any:
        """lam at `step`, the count of updates: a Python float, or a tensor for a schedule."""
        try:
            return self.scale * lam_at(self.lam, step)
        except Exception as problem:  # of a callable, whose value was checked before the trace
            if not callable(self.lam):
                raise
            raise ValueError(not_traceable(self.lam, problem)) from problem

    def rate(self, learning_rate: Any, optimizer: Any) -> Any:
        """What lam is multiplied by: eta; eta / peak; or, corrected, eta ** 2 / peak."""
        return rate(self.rule, learning_rate, optimizer, corrected=self.corrected)


def rate(rule: DecayRule, learning_rate: Any, optimizer: Any, *, corrected: bool) -> Any:
    """eta for decoupled decay, eta / peak for independent, eta ** 2 / peak for corrected."""
    if rule.coupling == "independent":
        return learning_rate / rule.peaks[id(optimizer)]
    if corrected:
        return learning_rate * learning_rate / rule.peaks[id(optimizer)]
    return learning_rate


def lam_at(lam: Lam, step: Any) -> Any:
    """The value of a lam at `step`: itself, or its value there."""
    if isinstance(lam, float):
        return lam
    if isinstance(lam, LearningRateSchedule):
        return lam(step)
    return lam(ops.cast(step, penalties.accumulation_dtype(keras.config.floatx())))


def not_traceable(lam: Lam, problem: Exception) -> str:
    """The message for a callable that has a value, and raises where the step is traced."""
    return _validation.error(
        "A callable `lam` is part of the compiled step, where Python cannot ask for the step's "
        "value.",
        f"lam={_validation.shown(lam)}, which raised {_validation.brief(problem).split('. ')[0]}",
        "Write keras.ops.where(step < 1000, 0.1, 0.2) in the place of `if`, and keras.ops for "
        "other functions; or pass run_eagerly=True to compile.",
    )


def _no_lam_for(glob: str, matched: Sequence[Any], paths: Sequence[str]) -> str:
    if matched:
        received = f"{_validation.shown(glob)}, whose variables all match a pattern before it"
        return _validation.error(
            "Each pattern in `lam` must be the first to match some variable.",
            received,
            "Put it before the more general ones, or leave it out.",
        )
    return _validation.error(
        "Each pattern in `lam` must match the variable.path of a variable that is decayed.",
        f"{_validation.shown(glob)}, which matches none",
        _validation.pattern_remedy(glob, paths),
    )


def _none_corrected(received: str) -> str:
    return _validation.error(
        "`corrected` needs decayed variables of layers whose output is always normalized.",
        received,
        'Name their variables: corrected=["encoder/*"].',
    )


def _turned(received: str) -> str:
    return _validation.error(
        "`lazy=True` needs learning_rate * lam < 1, as it adds up logarithms of 1 - that.",
        received,
        "Pass a smaller lam, or leave out lazy=True.",
    )


def _sign_lost(variable: Any) -> str:
    return _validation.error(
        "`cautious` needs the sign of the step, which low-precision variables may round away.",
        f"{variable.path} of dtype {variable.dtype}",
        'Use float32 variables: the policies "mixed_bfloat16" and "mixed_float16".',
    )


def _lost(variable: Any) -> str:
    return _validation.error(
        'coupling="coupled" adds lam * W to the gradient, and low-precision variables round '
        "that away.",
        f"{variable.path} of dtype {variable.dtype}",
        'Use coupling="decoupled", which rounds at random so that decay is exact on average, or '
        'float32 variables: the policies "mixed_bfloat16" and "mixed_float16".',
    )
