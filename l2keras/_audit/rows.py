"""What an audit found, as plain data: rows, findings, totals, and a digest to compare runs by."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from l2keras import _calls, _validation

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class CallbackDecay:
    """What one WeightDecay callback does to one variable.

    Attributes:
        lam: As given; of a schedule, at the present step.
        coupling: "decoupled", "coupled" or "independent".
        counts_for: What `lam` is multiplied by beside the learning rate: 1 / peak where
            independent, eta / peak where corrected, else 1; None where that is not known yet.
        schedule: A description of the schedule of `lam`, the same at every step; None for a float.
        form: "corrected", "cautious", "stable", "toward init", several of them, or "".
        taken: The part of W that it takes away in the first step where lam and the learning rate
            are largest; 0.0 where that is not known, as of `stable` and under adaptive optimizers.
        load: Above 1 the weights grow without bound; several sources add up.
        is_known: False where the optimizer that the callback names is not built yet: it may
            update the variable, or not.
    """

    lam: float
    coupling: str = "decoupled"
    counts_for: float | None = 1.0
    schedule: str | None = None
    form: str = ""
    taken: float = 0.0
    load: float = 0.0
    is_known: bool = True

    @property
    def effective(self) -> float | None:
        """lambda in the half convention; None where it depends on what is not known yet."""
        is_known = self.is_known and self.counts_for is not None
        return self.lam * (self.counts_for or 0.0) if is_known else None

    @property
    def depends(self) -> bool:
        """Whether what W loses in a step depends on more than W, lam and the learning rate."""
        return self.form not in ("", "corrected")


@dataclass(frozen=True)
class Row:
    """One variable of the model, and what decays it.

    Attributes:
        path: Keras' `variable.path`.
        shape: Of the variable; () for a scalar.
        dtype: That it is stored in.
        role: The last part of the path: `kernel`, `bias`, `gamma`, ...
        kind: `kernel` (embeddings too), `bias`, `norm`, `positional`, `scale` (gains, slopes), or
            `vector` for any other of rank < 2.
        layer: The class of the layer that owns it.
        trainable: Whether the optimizer steps it: False for frozen variables and for the scales of
            float8, which are overwritten. Nothing decays what it does not step.
        reason: Whether decay applies by default, and why: "decays: named kernel", "left out: of
            LayerNormalization". It also says where a WeightDecay selects otherwise.
        is_guess: True where neither name nor layer, but only the shape, says what it is for.
        regularizer: The regularizer on the variable, as one writes it; None without.
        lam_regularizer: What the regularizer adds to lam; None where that is not known, 0.0
            for a frozen variable, which Keras leaves out of the loss.
        l1: The coefficient of sum(abs(W)) in the loss.
        lam_optimizer: The optimizer's own weight_decay, 0.0 for what it excludes.
        callbacks: What each WeightDecay callback does.
        lam: All of these together, in the half convention; None where a part is not known.
        learning_rate: Of the optimizer that updates it, now; None without one.
        shrink: The fraction of W that is lost per step at that learning rate; None where it is
            not a property of the coefficients: no optimizer, a coupled lam under an adaptive
            one, cautious and stable decay, decay toward an anchor. Coupled decay under momentum
            is that of the long run, eta * lam / (1 - momentum).
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    role: str
    kind: str
    layer: str
    trainable: bool
    reason: str = ""
    is_guess: bool = False
    regularizer: str | None = None
    lam_regularizer: float | None = 0.0
    l1: float = 0.0
    lam_optimizer: float = 0.0
    callbacks: tuple[CallbackDecay, ...] = ()
    lam: float | None = 0.0
    learning_rate: float | None = None
    shrink: float | None = None

    @property
    def timescale(self) -> float | None:
        """Steps in which W falls to 1/e where nothing else moves it: 1 / shrink."""
        return 1 / self.shrink if self.shrink else None

    @property
    def decayed(self) -> bool:
        """True where lam acts on the variable, known or not, now or later, or an L1 penalty."""
        scheduled = any(decay.schedule for decay in self.callbacks)
        return self.lam is None or self.lam > 0 or self.l1 > 0 or scheduled

    @property
    def group(self) -> str:
        """The total that the row belongs to: `decayed`, `not decayed` or `frozen`."""
        if not self.trainable:
            return "frozen"
        return "decayed" if self.decayed else "not decayed"

    def to_dict(self) -> dict[str, Any]:
        """The row as plain Python values."""
        return {**asdict(self), "shape": list(self.shape), "timescale": self.timescale}


@dataclass(frozen=True)
class Finding:
    """Something to look at: how bad, which, what was found, and what to do.

    Attributes:
        severity: "error", "warning" or "info".
        code: A slug for filters and tests, such as `decayed-twice`.
        message: What was found, naming the variables.
        remedy: What to do.
    """

    severity: str
    code: str
    message: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity} [{self.code}] {self.message} {self.remedy}"


@dataclass(frozen=True)
class Audited:
    """All that an audit found; `AuditReport` shows it."""

    model: str
    optimizers: tuple[str, ...]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]

    @property
    def totals(self) -> dict[str, dict[str, int]]:
        """Tensors and parameters that are decayed, not decayed, frozen, and all."""
        totals = {
            name: {"tensors": 0, "parameters": 0}
            for name in ("decayed", "not decayed", "frozen", "all")
        }
        for row in self.rows:
            for name in (row.group, "all"):
                totals[name]["tensors"] += 1
                totals[name]["parameters"] += math.prod(row.shape)
        return totals

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that are equal where the same variables are decayed alike.

        It covers, for every decayed variable, its name without automatic numbers and without
        the model's, its place among those of the same name, its shape, and lam and coupling by
        source: an L2 of Keras and a HalfL2 of the same lam are alike. It does not cover values,
        the learning rate, the step that a schedule has come to, dtypes, what is not decayed,
        or the findings; of a callable lam, its values at seven steps from 0 to 100,000 only.
        """
        return _digest(_what_decays(self.model, self.rows))

    @_calls.explained("row")
    def row(self, path: str) -> Row:
        """The row of the variable with this path; a KeyError names the nearest."""
        if not isinstance(path, str):
            raise TypeError(
                _validation.error(
                    "`path` must be the path of a variable, a string.",
                    f"path={_validation.shown(path)}",
                    "Pass row(variable.path).",
                )
            )
        rows = {row.path: row for row in self.rows}
        if path not in rows:
            near = ", ".join(_validation.nearest(path, rows))
            raise KeyError(
                _validation.error(
                    "`path` must be the path of a variable of the model.",
                    f"path={_validation.shown(path)}",
                    f"The nearest are: {near}.",
                )
            )
        return rows[path]

    def codes(self) -> list[str]:
        """The codes of the findings, the worst first."""
        return [finding.code for finding in self.findings]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python values: what `json.dumps` takes."""
        return {
            "model": self.model,
            "digest": self.digest,
            "optimizers": list(self.optimizers),
            "totals": self.totals,
            "rows": [row.to_dict() for row in self.rows],
            "findings": [asdict(finding) for finding in self.findings],
        }


def _what_decays(model: str, rows: tuple[Row, ...]) -> list[list[Any]]:
    seen: Counter[str] = Counter()
    decaying = []
    for row in rows:
        name = re.sub(r"_\d+(?=/|$)", "", row.path.removeprefix(f"{model}/"))
        seen[name] += 1
        if row.trainable and row.decayed:
            callbacks = [
                [
                    _rounded(decay.lam) if decay.schedule is None else decay.schedule,
                    decay.coupling,
                    decay.form,
                ]
                for decay in row.callbacks
            ]
            regularizer = row.regularizer if row.lam_regularizer is None else row.lam_regularizer
            sources = [_rounded(regularizer), _rounded(row.l1), _rounded(row.lam_optimizer)]
            decaying.append([name, seen[name], list(row.shape), *sources, callbacks])
    return decaying


def _rounded(value: Any) -> Any:
    """Without the last digits, where 3 * 0.1 and 0.3 differ."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
