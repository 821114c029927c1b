"""What looks wrong about the decay of a model: every rule, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from l2keras._audit import rules_of_decay, rules_of_settings, rules_of_size, rules_of_steps
from l2keras._audit.rows import Finding
from l2keras._audit.subject import Subject

Rule = Callable[[Subject], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    rules_of_decay.decayed_twice,
    rules_of_size.decay_too_large,
    rules_of_settings.refused_optimizer,
    rules_of_settings.exclusions_without_effect,
    rules_of_decay.small_parameters_decayed,
    rules_of_decay.kernels_left_out,
    rules_of_decay.roles_guessed,
    rules_of_settings.exclusions_without_match,
    rules_of_settings.exclusions_and_saving,
    rules_of_settings.regularizer_mismatch,
    rules_of_decay.decay_lost_to_rounding,
    rules_of_decay.frozen_with_penalty,
    rules_of_decay.embeddings_made_dense,
    rules_of_settings.penalty_in_monitor,
    rules_of_steps.losses_of_ones_own,
    rules_of_steps.optimizers_of_ones_own,
    rules_of_steps.compiled_before,
    rules_of_settings.not_known_yet,
)


def examine(subject: Subject) -> Iterator[Finding]:
    """Every finding of every rule."""
    for rule in RULES:
        yield from rule(subject)
