"""The report of a `fit`: made once it can be true, and again where what acts has changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from l2keras._audit.audit import audit, log_findings, log_report
from l2keras._audit.report import AuditReport
from l2keras._keras import retrace
from l2keras._keras.variables import has_variables

# Decay that takes less of W in a step neither turns signs nor diverges, two sources included.
_HARMLESS = 0.5
_TOLERANCE = 1e-6  # learning rates are float32


class Reporter:
    """Makes and logs the report of the WeightDecay callbacks of one `fit`.

    Args:
        model: That is trained.
        train_function: Its `DecayedTrainFunction`, with the groups and the version of the step.

    Attributes:
        report: The last one; None before the first.
    """

    def __init__(self, model: Any, train_function: Any) -> None:
        self.report: AuditReport | None = None
        self._model = model
        self._train_function = train_function
        self._reported: tuple[int, ...] | None = None
        self._strongest = _HARMLESS

    def follow(self, *, may_wait: bool = True) -> AuditReport | None:
        """Reports where the step was traced anew, or showed more of what it updates.

        Args:
            may_wait: True before the end of an epoch: the next step may show what the optimizer
                of a callback updates.
        """
        train_function = self._train_function
        owners = [group.optimizer for group in train_function.groups if group.is_own]
        counts = [len(train_function.updates.by(optimizer)) for optimizer in owners]
        state = train_function.version, *counts
        if state != self._reported and (all(counts) or not may_wait):
            self._make()
            self._reported = state if self.report is not None else None
        return self.report

    def watch(self, decay_per_step: float) -> AuditReport | None:
        """Reports again where decay became stronger than the last report knew."""
        if self.report is not None and decay_per_step > self._strongest * (1 + _TOLERANCE):
            self._strongest = decay_per_step
            self._make(reported=self.report.codes())  # not again for a larger number
        return self.report

    def _make(self, reported: Sequence[str] = ()) -> None:
        """Makes the report and logs what is new in it, but for findings with a `reported` code."""
        if not has_variables(self._model):
            return
        retrace.sync_state(self._model)
        before, callbacks = self.report, [group.callback for group in self._train_function.groups]
        self.report = report = audit(self._model, callbacks)
        if before is None or report.summary() != before.summary():
            log_report(report)
        old = () if before is None else before.findings
        log_findings(one for one in report.findings if one not in old and one.code not in reported)
        taken = [decay.taken for row in report.rows for decay in row.callbacks]
        self._strongest = max([self._strongest, *taken])
