"""The runs of a study in the order of an experiment: setting, method, lambda, rate, seed.

Pure functions of records. A setting is one combination of everything that takes more than one
value and is neither method, lambda, learning rate nor seed; settings are never averaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from experiments import statistics
from experiments.records import Record
from experiments.statistics import Difference, Interval

METHOD, LAM, LEARNING_RATE = "regularization.name", "regularization.lam", "optimizer.learning_rate"
ROLES = {METHOD, LAM, LEARNING_RATE, "seed"}
# The keys whose values make a setting: those of the config that change what is computed.
SECTIONS = ("data.", "model.", "optimizer.", "regularization.", "training.")
OUTSIDE = {"training.progress"}
NONE = "none"  # the method without any lambda


@dataclass(frozen=True)
class Cell:
    """One method at one lambda and learning rate, with a finished run for each seed.

    Attributes:
        lam: As it was written; 0 for the method `none`.
        runs: By seed.
    """

    method: str
    lam: float
    learning_rate: float
    runs: Mapping[int, Record]

    @property
    def effective_lam(self) -> float:
        """The coefficient of W in the gradient: the axis on which methods can be compared."""
        if self.method == NONE:
            return 0.0
        found = next(iter(self.runs.values())).number("lambda")
        return self.lam if math.isnan(found) else found

    @property
    def timescale(self) -> float:
        """1 / (eta * lambda) in epochs; nan without decay."""
        return next(iter(self.runs.values())).number("timescale_epochs")

    def values(self, metric: str) -> dict[int, float]:
        return {seed: record.number(metric) for seed, record in self.runs.items()}

    def interval(self, metric: str) -> Interval:
        return statistics.interval(list(self.values(metric).values()))


@dataclass(frozen=True)
class Setting:
    """The cells that differ in method, lambda and learning rate only.

    Attributes:
        label: What tells it from the other settings, such as "batch_size=32"; "" for a single one.
        metric: What is compared: val_accuracy, or val_data_loss where there is none.
    """

    label: str
    metric: str
    cells: tuple[Cell, ...]

    @property
    def higher_is_better(self) -> bool:
        return self.metric == "val_accuracy"

    @property
    def methods(self) -> list[str]:
        """`none` first, then by name."""
        return sorted({cell.method for cell in self.cells}, key=lambda name: (name != NONE, name))

    @property
    def learning_rates(self) -> list[float]:
        return sorted({cell.learning_rate for cell in self.cells})

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for cell in self.cells for seed in cell.runs})

    def of(self, method: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.method == method]

    def has_grid(self, method: str) -> bool:
        """Whether it has several lambdas and learning rates, at least half of all pairs tried."""
        cells = self.of(method)
        lams, rates = {c.lam for c in cells}, {c.learning_rate for c in cells}
        return min(len(lams), len(rates)) > 1 and 2 * len(cells) >= len(lams) * len(rates)

    def ranked(self, cells: Iterable[Cell]) -> list[Cell]:
        """Best mean first; what diverged comes last."""

        def rank(cell: Cell) -> tuple[bool, float]:
            mean = cell.interval(self.metric).mean
            return math.isnan(mean), -mean if self.higher_is_better else mean

        return sorted(cells, key=rank)

    def best_of(self, cells: Sequence[Cell]) -> Cell | None:
        """The best mean among cells with at least half the seeds of the fullest."""
        most = max((len(cell.runs) for cell in cells), default=0)
        full = [c for c in cells if 2 * len(c.runs) >= most]
        finite = [c for c in self.ranked(full) if math.isfinite(c.interval(self.metric).mean)]
        return finite[0] if finite else None

    def best(self, method: str) -> Cell | None:
        return self._best[method]

    @cached_property
    def leaders(self) -> list[Cell]:
        """The best cell of each method, best first."""
        return self.ranked(cell for cell in self._best.values() if cell is not None)

    @cached_property
    def _best(self) -> dict[str, Cell | None]:
        return {method: self.best_of(self.of(method)) for method in self.methods}

    def isolation(self, method: str) -> list[Cell]:
        """For each lambda the cell of the best learning rate, by effective lambda."""
        cells = self.of(method)
        found = [self.best_of([c for c in cells if c.lam == lam]) for lam in {c.lam for c in cells}]
        return sorted((c for c in found if c is not None), key=lambda cell: cell.effective_lam)

    def difference(self, a: Cell, b: Cell) -> Difference:
        return statistics.paired(a.values(self.metric), b.values(self.metric))


@dataclass(frozen=True)
class Study:
    """Everything that the page shows.

    Attributes:
        settings: Those with finished runs, in the order of their values.
        varying: The parameters that tell settings apart.
        fixed: Parameters that all finished runs share, with their value.
        failed: FAILED, KILLED, and RUNNING (or dead), that no finished run took the place of.
        runs: The runs that count, one for each cell and seed.
    """

    settings: tuple[Setting, ...]
    varying: tuple[str, ...]
    fixed: Mapping[str, str]
    failed: tuple[Record, ...]
    runs: tuple[Record, ...]


def build(records: Iterable[Record]) -> Study:
    """Sorts training runs; of several finished ones with one config the newest counts."""
    trials = sorted((r for r in records if r.is_trial), key=lambda record: record.start)
    finished = [r for r in trials if r.status == "FINISHED" and _has_place(r)]
    varying = varying_keys(finished)
    newest = {_place(record, varying): record for record in finished}
    done = {record.config_hash for record in finished} - {None}
    failed = [
        record
        for record in trials
        if record.status != "FINISHED"
        and record.config_hash not in done
        and (record.config_hash or _place(record, varying) not in newest)
    ]
    by_setting: dict[tuple[str, ...], list[Record]] = {}
    for record in newest.values():
        by_setting.setdefault(_values(record, varying), []).append(record)
    settings = [_setting(by_setting[values], varying, values) for values in _in_order(by_setting)]
    return Study(
        settings=tuple(settings),
        varying=varying,
        fixed=_fixed(list(newest.values())),
        failed=tuple(failed),
        runs=tuple(newest.values()),
    )


def varying_keys(records: Sequence[Record]) -> tuple[str, ...]:
    """The keys with more than one value; of keys that change together only the first.

    A key that some runs do not have, as those of an older version, does not tell them apart.
    """
    groupings: dict[tuple[int, ...], str] = {}
    for key in sorted({key for record in records for key in record.params}):
        if not key.startswith(SECTIONS) or key in ROLES | OUTSIDE:
            continue
        values = [record.params.get(key) for record in records]
        kinds = list(dict.fromkeys(values))
        if len(kinds) > 1 and None not in kinds:
            groupings.setdefault(tuple(kinds.index(value) for value in values), key)
    return tuple(groupings.values())


def _values(record: Record, varying: Sequence[str]) -> tuple[str, ...]:
    return tuple(record.params.get(key, "") for key in varying)


def _in_order(settings: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Numbers by size, words by the alphabet."""

    def order(values: tuple[str, ...]) -> list[tuple[float, str]]:
        return [(_number(value), value) for value in values]

    return sorted(settings, key=order)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(value) else value


def _has_place(record: Record) -> bool:
    """Whether a run has a seed, and no lambda or rate beyond all numbers."""
    beyond = any(math.isinf(record.number(key)) for key in (LAM, LEARNING_RATE))
    return math.isfinite(record.number("seed")) and not beyond


def _place(record: Record, varying: Sequence[str]) -> tuple[object, ...]:
    """Where a run belongs: its setting, cell and seed. Numbers to six digits."""
    lam = 0.0 if record.method == NONE else record.number(LAM)
    rate = record.number(LEARNING_RATE)
    numbers = (f"{lam:.6g}", f"{rate:.6g}", f"{record.number('seed'):g}")
    return (*_values(record, varying), record.method, *numbers)


def _setting(runs: Sequence[Record], varying: Sequence[str], values: Sequence[str]) -> Setting:
    cells: dict[tuple[object, ...], dict[int, Record]] = {}
    for record in runs:
        *cell, seed = _place(record, varying)
        cells.setdefault(tuple(cell[-3:]), {})[int(float(str(seed)))] = record
    accuracy = all("val_accuracy" in record.metrics for record in runs)
    return Setting(
        label=", ".join(f"{short(k)}={v}" for k, v in zip(varying, values, strict=True)),
        metric="val_accuracy" if accuracy else "val_data_loss",
        cells=tuple(
            Cell(str(method), float(str(lam)), float(str(rate)), dict(sorted(by_seed.items())))
            for (method, lam, rate), by_seed in sorted(cells.items(), key=lambda item: str(item[0]))
        ),
    )


def short(key: str) -> str:
    """`training.batch_size` is batch_size; `model.name` is model."""
    section, _, last = key.rpartition(".")
    return section if last == "name" else last


def _fixed(runs: Sequence[Record]) -> dict[str, str]:
    if not runs:
        return {}
    shared = set.intersection(*(set(record.params.items()) for record in runs))
    return dict(sorted(shared))
