"""How a training run ended, as one process tells another."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field

from l2keras_experiments.config.credentials import masked
from l2keras_experiments.config.schema import ConfigError


class DivergedError(ArithmeticError):
    """A loss is not a number any more, or infinite."""


@dataclass(frozen=True)
class Outcome:
    """How a training run ended.

    Attributes:
        label: What tells it from its neighbours.
        config_hash: What tells it from all others.
        status: MLflow's FINISHED, FAILED, KILLED or RUNNING (elsewhere), or SKIPPED: it was
            finished before.
        run_id: MLflow's, or None where it came to no run.
        metrics: Those of the last epoch.
        seconds: Wall time of `fit`.
        failure: Why it is not FINISHED, in one line.
        details: The traceback, where there is no MLflow run to keep it.
        selection: The metric that ranks it, where the config names one.
    """

    label: str
    config_hash: str
    status: str
    run_id: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    failure: str | None = None
    details: str | None = None
    selection: str | None = None

    @property
    def failed(self) -> bool:
        return self.status in ("FAILED", "KILLED")

    @classmethod
    def of_error(cls, label: str, config_hash: str, error: BaseException) -> Outcome:
        """What an exception makes of a run; a mistake without a cause has no traceback."""
        is_mistake = isinstance(error, ConfigError | DivergedError) and error.__cause__ is None
        details = None if is_mistake else masked("".join(traceback.format_exception(error)))
        return cls(label, config_hash, "FAILED", failure=describe(error), details=details)


def describe(error: BaseException) -> str:
    """An exception in one line of at most 500 characters."""
    first = masked(str(error)).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}"[:500] if first else type(error).__name__
