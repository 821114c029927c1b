"""What looks wrong about the decay of a model: every rule, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from l2keras import _rules_of_decay, _rules_of_settings
from l2keras._rows import Finding
from l2keras._subject import Subject

Rule = Callable[[Subject], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    _rules_of_decay.decayed_twice,
    _rules_of_settings.refused_optimizer,
    _rules_of_settings.exclusions_without_effect,
    _rules_of_decay.small_parameters_decayed,
    _rules_of_decay.kernels_left_out,
    _rules_of_settings.exclusions_without_match,
    _rules_of_settings.exclusions_and_saving,
    _rules_of_settings.regularizer_mismatch,
    _rules_of_decay.decay_lost_to_rounding,
    _rules_of_decay.frozen_with_penalty,
    _rules_of_decay.embeddings_made_dense,
    _rules_of_settings.penalty_in_monitor,
    _rules_of_settings.not_known_yet,
)


def examine(subject: Subject) -> Iterator[Finding]:
    """Every finding of every rule."""
    for rule in RULES:
        yield from rule(subject)
