"""The runs of a study in the order of an experiment: setting, method, lambda, rate, seed.

Pure functions of records. A setting is one combination of everything that takes more than one
value and is neither method, lambda, learning rate nor seed; settings are never averaged.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from l2keras_experiments.config import methods, schema
from l2keras_experiments.reports import statistics
from l2keras_experiments.reports.records import Record
from l2keras_experiments.reports.statistics import Difference, Interval

METHOD, LAM, LEARNING_RATE = "regularization.name", "regularization.lam", "optimizer.learning_rate"
ROLES = {METHOD, LAM, LEARNING_RATE, "seed"}
# The keys whose values make a setting: those of the config that change what is computed.
SECTIONS = ("data.", "model.", "optimizer.", "regularization.", "training.")
OUTSIDE = {"training.progress", "data._target_", "model._target_", "optimizer._target_"}
DEFAULT = "default"  # of an argument that a config leaves to its target
ACCURACY, DATA_LOSS = "val_accuracy", "val_data_loss"
LONGEST = 32  # letters of a label in a figure
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
    def label(self) -> str:
        """The method for people."""
        return methods.label(self.method)

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

    def measured(self, metric: str) -> Interval | None:
        """The interval of a metric that only some data have; None where a run lacks it."""
        known = all(metric in record.metrics for record in self.runs.values())
        return self.interval(metric) if known else None


@dataclass(frozen=True)
class Setting:
    """The cells that differ in method, lambda and learning rate only.

    Attributes:
        label: What tells it from the other settings, such as "batch_size=32"; "" for a single one.
        metric: What is compared: `training.selection` of the runs, else val_accuracy, or
            val_data_loss where there is none.
        higher_is_better: Whether the metric is to grow.
    """

    label: str
    metric: str
    higher_is_better: bool
    cells: tuple[Cell, ...]

    @property
    def metric_title(self) -> str:
        """The metric in words."""
        return self.metric.replace("val_", "validation ", 1).replace("_", " ")

    @property
    def test_metric(self) -> str:
        """What is measured on the test examples, once, and selects nothing."""
        return self.metric.replace("val_", "test_", 1)

    @property
    def test_title(self) -> str:
        """The test metric in words."""
        return self.test_metric.replace("_", " ")

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
        """Best mean first, of equal ones the lower data loss; what diverged comes last."""

        def rank(cell: Cell) -> tuple[bool, float, bool, float]:
            mean, loss = _mean(cell, self.metric), _mean(cell, DATA_LOSS)
            sign = -1 if self.higher_is_better else 1
            return math.isnan(mean), sign * mean, math.isnan(loss), loss

        return sorted(cells, key=rank)

    @cached_property
    def is_tied(self) -> bool:
        """Whether several cells have one mean, and none another."""
        return self._has_one(self.metric)

    @cached_property
    def is_flat(self) -> bool:
        """Whether they have one data loss, too: nothing can be selected."""
        return self.is_tied and self._has_one(DATA_LOSS)

    def _has_one(self, metric: str) -> bool:
        finite = [c for c in self.cells if math.isfinite(c.interval(self.metric).mean)]
        return len(finite) > 1 and len({_mean(cell, metric) for cell in finite}) == 1

    @property
    def compares_losses(self) -> bool:
        """Whether the metric is the loss that was minimized, and means nothing beside another."""
        return self.metric in (DATA_LOSS, "val_loss")

    @property
    def loss(self) -> frozenset[tuple[str, str]]:
        """The loss that its runs minimize."""
        return next(iter(self.cells[0].runs.values())).loss

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


def _mean(cell: Cell, metric: str) -> float:
    """The mean to the digits that do not depend on the order of a sum."""
    return float(f"{cell.interval(metric).mean:.9g}")


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
    mended = {_config(record): record.start for record in finished}  # by then its source may differ
    failed = [
        record
        for record in trials
        if record.status != "FINISHED"
        and record.config_hash not in done
        and mended.get(_config(record), -math.inf) <= record.start
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
    """The keys with more than one value; of keys that change together only one, a name if any.

    A key that some runs do not have, as those of an older version, does not tell them apart,
    unless it is an argument of a target, which other targets and other configs leave out.
    """
    groupings: dict[tuple[int, ...], str] = {}
    keys = {key for record in records for key in record.params}
    for key in sorted(keys, key=lambda key: (not key.endswith(".name"), key)):
        if not key.startswith(SECTIONS) or key in ROLES | OUTSIDE:
            continue
        values = [_value(record, key) for record in records]
        kinds = list(dict.fromkeys(values))
        if len(kinds) > 1 and None not in kinds:
            groupings.setdefault(tuple(kinds.index(value) for value in values), key)
    return tuple(sorted(groupings.values()))


def _value(record: Record, key: str) -> str | None:
    """None where a run does not have the key and need not have it."""
    if key in record.params or not _is_argument(key):
        return record.params.get(key)
    whole, _, last = key.rpartition(".")
    return record.params.get(whole, DEFAULT) if last in ("name", "_target_") else DEFAULT


@functools.cache
def _is_argument(key: str) -> bool:
    """Whether a key is an argument, of a group or in the value of a key, and none of the schema."""
    keys = [name for name, _, _ in schema.keys(schema.Config)]
    group, _, name = key.partition(".")
    named = group in schema.open_groups(schema.Config) and name not in ("name", "_target_")
    return key not in keys and (named or any(key.startswith(f"{one}.") for one in keys))


def _values(record: Record, varying: Sequence[str]) -> tuple[str, ...]:
    return tuple(_value(record, key) or "" for key in varying)


def _config(record: Record) -> frozenset[tuple[str, str]]:
    """What a run was configured with, as far as it changes what is computed."""
    chosen = (*SECTIONS, "seed", "backend", "device", "distribute")
    return frozenset((k, v) for k, v in record.params.items() if k.startswith(chosen))


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
    metric, higher_is_better = _selection(runs)
    return Setting(
        label=_label(varying, values),
        metric=metric,
        higher_is_better=higher_is_better,
        cells=tuple(
            Cell(str(method), float(str(lam)), float(str(rate)), dict(sorted(by_seed.items())))
            for (method, lam, rate), by_seed in sorted(cells.items(), key=lambda item: str(item[0]))
        ),
    )


def _selection(runs: Sequence[Record]) -> tuple[str, bool]:
    """The metric by which runs are compared, and whether higher is better."""
    task = (ACCURACY, True)
    for metric, higher_is_better in (*dict.fromkeys(r.selection or task for r in runs), task):
        if all(metric in run.metrics for run in runs):
            return metric, higher_is_better
    return DATA_LOSS, False


def _label(varying: Sequence[str], values: Sequence[str]) -> str:
    """What varies, without the arguments that are left to a target."""
    pairs = list(zip(labels(varying), values, strict=True))
    written = [(name, value) for name, value in pairs if value != DEFAULT]
    return ", ".join(f"{name}={value}" for name, value in written or pairs)


def labels(keys: Sequence[str]) -> list[str]:
    """The keys for people: shortened, unless two would read the same."""
    names = [short(key) for key in keys]
    pairs = zip(keys, names, strict=True)
    return [name if names.count(name) == 1 else key for key, name in pairs]


def names(settings: Sequence[Setting]) -> list[str]:
    """A name for each setting, short enough for a figure: its label, or its number."""
    if max((len(setting.label) for setting in settings), default=0) <= LONGEST:
        return [setting.label for setting in settings]
    return [f"setting {number}" for number in range(1, len(settings) + 1)]


def short(key: str) -> str:
    """`training.batch_size` is batch_size; `model.name` is model, `training.loss._target_` loss."""
    section, _, last = key.rpartition(".")
    return short(section) if section and last in ("name", "_target_") else last


def _fixed(runs: Sequence[Record]) -> dict[str, str]:
    if not runs:
        return {}
    shared = set.intersection(*(set(record.params.items()) for record in runs))
    return dict(sorted(shared))
