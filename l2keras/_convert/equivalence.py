"""When two systems decay alike: the number between them, and what breaks equality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from l2keras import _validation
from l2keras._convert.system import System

PLAIN = "sgd"
HEAVY = ("momentum", "nesterov")
ADAPTIVE = (
    *("adam", "adamw", "nadam", "adamax", "rmsprop", "adagrad", "adadelta", "adafactor"),
    *("lion", "lamb", "ftrl", "muon", "schedulefreeadamw"),
)
WITHOUT_EPSILON = ("lion", "ftrl")
_EXAMPLE = {"learning_rate": "0.1", "num_samples": "60000", "batch_size": "32", "num_steps": "1000"}


class UndefinedConversionError(ValueError):
    """There is no coefficient of the target that means what the source means.

    Convention: raised by `l2keras.convert` where no `lam`, the coefficient of `W` in the
    gradient, is common to both systems, or where an argument that it depends on is missing. The
    message says why, and what would be defined. Source: the update rules that
    `l2keras.conventions` lists.

    Example:

    >>> from l2keras import UndefinedConversionError, convert
    >>> try:
    ...     convert(1e-4, "torch.Adam", "keras.weight_decay")
    ... except UndefinedConversionError as error:
    ...     print(str(error).split(". ")[0])
    `torch.Adam` must decay in the same way as `keras.weight_decay`
    """


@dataclass(frozen=True, slots=True)
class Setting:
    """What was said about the training: the arguments of `convert`, checked."""

    learning_rate: float | None
    schedule: Any  # what came as the learning rate if it is none
    optimizer: str | None
    counts: dict[str, int | None]  # num_samples, batch_size, num_steps


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence of `.why`, and whether it says that the two are not equal."""

    text: str
    breaks: bool = False


def make_setting(learning_rate: Any, optimizer: Any, counts: dict[str, Any]) -> Setting:
    """The arguments of `convert` checked, each by itself."""
    schedule = learning_rate if _is_schedule(learning_rate) else None
    rate = None
    if learning_rate is not None and schedule is None:
        remedy = "Pass learning_rate=0.1, or leave it out."
        rate = _validation.check_positive(learning_rate, "learning_rate", remedy)
    if optimizer is not None:
        name = optimizer.lower() if isinstance(optimizer, str) else optimizer
        optimizer = _validation.check_choice(name, "optimizer", (PLAIN, *HEAVY, *ADAPTIVE))
    checked = {
        name: None if count is None else _validation.check_count(count, name)
        for name, count in counts.items()
    }
    return Setting(rate, schedule, optimizer, checked)


def _is_schedule(value: Any) -> bool:
    """True for Keras' and optax' schedules, torch's schedulers, and rates in a row."""
    if isinstance(value, (str, bytes)):
        return False
    try:
        in_a_row = isinstance(value, Sequence) or len(getattr(value, "shape", ())) > 0
        return in_a_row or callable(value) or hasattr(value, "get_last_lr")
    except Exception:  # whatever the code of the value raises
        return False


def divisor(system: System, setting: Setting) -> float:
    """What divides the coefficient of `system`, for instance the number of samples."""
    name = system.scale.per
    if name and setting.counts[name] is None:
        refuse(
            f"`{system.name}` must be converted with `{name}`: lam = {system.lam}.",
            f"no `{name}`",
            f"Pass {name}={_EXAMPLE[name]}, or what it is for you.",
        )
    return system.scale.divisor(setting.counts.get(name))


def carry_over(strength: float, start: System, end: System, setting: Setting) -> float:
    """The strength in the kind of `end`, by way of the learning rate if only one has it."""
    if start.uses_rate == end.uses_rate:
        return strength
    rate = _learning_rate(start if start.uses_rate else end, setting)
    return strength / rate if start.uses_rate else strength * rate


def _learning_rate(system: System, setting: Setting) -> float:
    """The one rate between `system` and lam; there is none if `system` ignores a schedule."""
    what = {
        "independent": "the rate that the optimizer was constructed with (eta_init)",
        "fixed": "the constant learning rate",
    }[system.kind]
    expected = f"`{system.name}` must be converted with {what}: lam = {system.lam}."
    if setting.learning_rate is not None:
        return setting.learning_rate
    if setting.schedule is None:
        refuse(expected, "no `learning_rate`", "Pass it as a float: learning_rate=0.001.")
    remedies = {
        "independent": "Pass eta_init itself as a float; the conversion is then exact for every "
        "schedule, which scales both alike.",
        "fixed": "Its rule has no learning rate, so under a schedule no one coefficient matches. "
        "Defined are a constant rate (pass it as a float), and `mosaicml.DecoupledAdamW` or "
        "`WeightDecay.independent`, which follow a schedule.",
    }
    return refuse(
        expected, f"learning_rate={_validation.shown(setting.schedule)}", remedies[system.kind]
    )


def remarks(start: System, end: System, setting: Setting) -> Iterator[Remark]:
    """What is to be said of the equality of two systems; raises where nothing is defined."""
    yield Remark(f"{start.name} has lam = {start.lam}, {end.name} has lam = {end.lam}.")
    yield from _coupling(start, end, setting)
    yield from _optimizers(start, end, setting)
    yield from _different_velocities(start, end, setting)
    yield from _fixed_and_independent(start, end, setting)
    yield from _clipping(start, end)
    for system in dict.fromkeys((start, end)):
        if system.note:
            yield Remark(f"{system.name}: {system.note}.")


def _coupling(start: System, end: System, setting: Setting) -> Iterator[Remark]:
    """Coupled and decoupled decay are one thing under plain SGD only."""
    if (start.kind == "coupled") == (end.kind == "coupled"):
        if start.kind == "coupled":
            yield Remark("Both are g + lam*W, which the optimizer sees as part of the gradient.")
        else:
            yield Remark("Both shrink W beside the step: no momentum and no moment sees it.")
        return
    for family in (setting.optimizer, start.optimizer, end.optimizer):
        if family is not None and family in ADAPTIVE:
            _refuse_adaptive(start, end, family)
    if setting.optimizer == PLAIN:
        yield Remark("Under plain SGD W - eta_t*(g + lam*W) is (1 - eta_t*lam)*W - eta_t*g.")
    elif setting.optimizer in HEAVY:
        yield Remark(
            f"With {setting.optimizer} mu coupled decay passes through the velocity and acts "
            "about 1/(1 - mu) times as strongly as decoupled decay; they are not equal.",
            breaks=True,
        )
    else:
        yield Remark(
            "One is coupled and the other decoupled, which is equal under plain SGD only, not "
            'with momentum or adaptive moments. Pass optimizer="sgd" if it is plain SGD.',
            breaks=True,
        )


def _refuse_adaptive(start: System, end: System, family: str) -> NoReturn:
    coupled, decoupled = (start, end) if start.kind == "coupled" else (end, start)
    like = {
        coupled: "to another coupled system (half_l2, keras.L2, torch.Adam, ...)",
        decoupled: "to another decoupled system (keras.weight_decay, torch.AdamW, ...)",
    }
    refuse(
        f"`{start.name}` must decay in the same way as `{end.name}`.",
        f"coupled ({coupled.name}) and decoupled ({decoupled.name}) decay under {family}",
        f"{family.capitalize()} rescales the coupled lam*W along with the gradient (by moments, or "
        "to a sign), weight by weight, so no one coefficient of decoupled decay equals it. "
        f"Defined: from {start.name} {like[start]}; or both under plain SGD.",
    )


def _optimizers(start: System, end: System, setting: Setting) -> Iterator[Remark]:
    """torch.SGD and torch.Adam minimize one thing in two ways; so do two epsilons, a little."""
    given = setting.optimizer
    families = {start.optimizer, end.optimizer, PLAIN if given in HEAVY else given} - {None}
    families = {"adam" if family == "adamw" else family for family in families}
    if len(families) > 1:
        names = " and ".join(sorted(map(str, families)))
        yield Remark(
            f"The decay is the same, the optimizers are not ({names}): the weights differ.",
            breaks=True,
        )
    elif families & (set(ADAPTIVE) - set(WITHOUT_EPSILON)):
        yield Remark(
            "Epsilon is to be matched as well: frameworks differ in its default and in where it "
            "stands (Adam: 1e-8 after the bias correction in torch and optax, 1e-7 before it in "
            "Keras). Where it stands differently, make it too small to matter."
        )


def _different_velocities(start: System, end: System, setting: Setting) -> Iterator[Remark]:
    """Whether the learning rate is kept in the velocity shows under a schedule only."""
    different = {start.velocity, end.velocity} == {"inside", "outside"}
    if not different or setting.optimizer in (PLAIN, *ADAPTIVE) or setting.learning_rate:
        return
    inside, outside = (start, end) if start.velocity == "inside" else (end, start)
    text = (
        f"With momentum and a schedule they part: {inside.name} keeps the learning rate inside "
        f"the velocity, {outside.name} outside it."
    )
    if setting.schedule is not None and setting.optimizer is None:
        text += ' Pass optimizer="sgd" if there is no momentum.'
    yield Remark(text, breaks=setting.schedule is not None)


def _fixed_and_independent(start: System, end: System, setting: Setting) -> Iterator[Remark]:
    """They are one thing at a constant learning rate."""
    if {start.kind, end.kind} != {"fixed", "independent"} or setting.learning_rate is not None:
        return
    fixed = start if start.kind == "fixed" else end
    if setting.schedule is not None:
        _learning_rate(fixed, setting)
    yield Remark(
        f"{fixed.name} does not follow a schedule and the other does. Pass learning_rate= if it "
        "is constant.",
        breaks=True,
    )


def _clipping(start: System, end: System) -> Iterator[Remark]:
    if None in (start.clipped, end.clipped) or start.clipped == end.clipped:
        return
    inside, after = (start, end) if start.clipped else (end, start)
    yield Remark(
        f"With gradient clipping they part: {inside.name} is clipped with g, {after.name} is not."
    )


def refuse(expected: str, received: str, remedy: str) -> NoReturn:
    """Raises UndefinedConversionError."""
    raise UndefinedConversionError(_validation.error(expected, received, remedy))
