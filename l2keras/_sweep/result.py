"""What a sweep returns: a table, the weights, and each member as a model."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from l2keras import _calls, _validation
from l2keras._sweep.members import Member
from l2keras._sweep.template import Template
from l2keras._sweep.training import Trained


@dataclass(frozen=True, eq=False)
class SweepResult:
    """What `sweep` returns: its members, in the order lam, learning rate, seed.

    Convention: `members[i].lam` is the coefficient of `W` in the gradient.

    Attributes:
        members: What parts them: `.lam`, `.learning_rate`, `.seed`, `.coupling`.
        history: For each metric an array of shape (members, epochs); nan where a member had
            ended. `loss` and `val_loss` contain the penalty of `lam`, as in `fit`; `data_loss` and
            `val_data_loss` do not: of the losses of the layers themselves, all contain all.
        epochs: How many each member has done.
        status: For each member "finished", "stopped" (early stopping), "diverged" (its loss
            became nan or infinite), "interrupted" or "waiting" (Ctrl-C or an error came before).
        weights: For each member what `get_weights()` of its model returns.
        notes: What the user should know: how many members were trained at once, and why.

    Example:

    >>> import keras, l2keras
    >>> def build_model():
    ...     dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    ...     return keras.Sequential([keras.Input((1,)), dense])
    >>> zeros = np.zeros((4, 1), "float32")
    >>> result = l2keras.sweep(build_model, [0.0, 1.0], zeros, zeros, learning_rates=[0.5],
    ...                        loss="mse", batch_size=4, verbose=0)
    >>> [(row["lam"], row["epoch"], row["loss"]) for row in result.table()]
    [(0.0, 0, 0.0), (1.0, 0, 0.5)]
    >>> result.member(1).predict(np.ones((1, 1), "float32"), verbose=0).item()
    0.5
    >>> result.best("loss")
    0
    """

    members: tuple[Member, ...]
    history: dict[str, np.ndarray]
    epochs: tuple[int, ...]
    status: tuple[str, ...]
    weights: tuple[list[np.ndarray], ...]
    notes: tuple[str, ...]
    _template: Template
    _states: tuple[tuple[list[np.ndarray], list[np.ndarray]], ...]

    @_calls.explained("member")
    def member(self, i: int) -> Any:
        """An ordinary built Keras model with the weights of member `i`, not compiled."""
        number = _validation.as_int(i)
        if number is None or not -len(self._states) <= number < len(self._states):
            raise ValueError(
                _validation.error(
                    f"`i` must be an int from 0 to {len(self._states) - 1}.",
                    f"i={_validation.shown(i)}",
                    "`members` lists what each of them is.",
                )
            )
        return self._template.member(self._states[number])

    @_calls.explained("best")
    def best(self, metric: str | None = None, mode: str | None = None) -> int:
        """The number of the member with the best last value of a metric; nan never wins.

        Args:
            metric: A key of `history`; by default the first that there is of `val_data_loss`,
                `data_loss` and `loss`.
            mode: "min" or "max"; by default "min" for a name that ends in "loss", "error" or
                "penalty", "max" for "accuracy", "auc", "precision" and "recall".

        Raises:
            ValueError: no such metric, no direction known, or no member with a value.
        """
        name = self._metric(metric)
        sign = 1.0 if _grows(name, mode) else -1.0
        last = sign * self._last(name)
        if not np.isfinite(last).any():
            raise ValueError(
                _validation.error(
                    "`best` needs a member with a finite value.",
                    f"none of {name!r}",
                    "Train longer, or with a smaller learning rate.",
                )
            )
        return int(np.nanargmax(np.where(np.isfinite(last), last, np.nan)))

    @_calls.explained("plot")
    def plot(self, metric: str | None = None, ax: Any = None) -> Any:
        """Draws the last value of a metric over lam, a line for each learning rate.

        Members of several seeds are points; the line goes through their means. lam 0 is drawn on
        a linear piece of the axis, left of the others.

        Args:
            metric: As for `best`.
            ax: A matplotlib `Axes`; by default a new one.

        Returns:
            The `Axes`.

        Raises:
            ImportError: matplotlib is not installed.
            TypeError: `ax` does not draw.
            ValueError: no such metric.
        """
        name = self._metric(metric)
        last = self._last(name)
        if ax is not None and not hasattr(type(ax), "set_xscale"):
            raise TypeError(
                _validation.error(
                    "`ax` must be an Axes of matplotlib.",
                    f"ax={_validation.shown(ax)}",
                    "Leave it out for a new one.",
                )
            )
        if ax is None:
            try:
                from matplotlib import pyplot
            except ImportError as error:
                raise ImportError(
                    "`plot` needs matplotlib. Received: it is not installed. Install it with: "
                    "pip install matplotlib"
                ) from error
            _, ax = pyplot.subplots()
        rates = _rates(self.members)
        for rate in dict.fromkeys(rates):
            points = sorted((m.lam, y) for m, r, y in zip(self.members, rates, last, strict=True)
                            if r == rate)  # fmt: skip
            lams = list(dict.fromkeys(lam for lam, _ in points))
            means = [np.mean([y for other, y in points if other == lam]) for lam in lams]
            (line,) = ax.plot(lams, means, label=f"learning rate {rate}")
            ax.plot(*zip(*points, strict=True), "o", color=line.get_color())
        positive = [member.lam for member in self.members if member.lam > 0]
        if positive:
            ax.set_xscale("symlog", linthresh=min(positive))
        ax.set_xlabel("lambda")
        ax.set_ylabel(name)
        if len(set(rates)) > 1:
            ax.legend()
        return ax

    def _metric(self, metric: str | None) -> str:
        names = [metric] if metric is not None else ["val_data_loss", "data_loss", "loss"]
        present = (name for name in names if isinstance(name, str) and name in self.history)
        matched = next(present, None)
        if matched is None:
            raise ValueError(
                _validation.error(
                    f"`metric` must be one of {', '.join(self.history)}.",
                    f"metric={_validation.shown(metric)}",
                    "Pass one of them.",
                )
            )
        return matched

    def _last(self, name: str) -> np.ndarray:
        """The value of each member in its last epoch; nan for one without any."""
        column = self.history[name]
        return np.array([column[i, n - 1] if n else np.nan for i, n in enumerate(self.epochs)])

    def table(self) -> list[dict[str, Any]]:
        """A row for each epoch of each member, of plain values: `pandas.DataFrame` takes it.

        `learning_rate` is a float, or the name of a schedule: "CosineDecay", or "CosineDecay 2" for
        the second where there are several.
        """
        rows, rates = [], _rates(self.members)
        for i, member in enumerate(self.members):
            about = {"member": i, "lam": member.lam, "learning_rate": rates[i],
                     "seed": member.seed}  # fmt: skip
            for epoch in range(self.epochs[i]):
                values = {name: float(column[i, epoch]) for name, column in self.history.items()}
                rows.append({**about, "epoch": epoch, **values})
        return rows

    def _repr_html_(self) -> str:
        """The last epoch of every member, for notebooks."""
        names = [name for name in self.history if name not in ("penalty", "val_penalty")]
        head = ["lam", "learning rate", "seed", "epochs", *names, "status"]
        rows, rates = [], _rates(self.members)
        for i, member in enumerate(self.members):
            values = [f"{self._last(name)[i]:.4g}" for name in names]
            row = [f"{member.lam:.4g}", rates[i], member.seed, self.epochs[i], *values]
            rows.append([*row, self.status[i]])
        cells = ["".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return (
            "<table><thead><tr>"
            + "".join(f"<th>{html.escape(name)}</th>" for name in head)
            + "</tr></thead><tbody>"
            + "".join(f"<tr>{row}</tr>" for row in cells)
            + f"</tbody></table>{notes}"
        )

    def __str__(self) -> str:
        """The last epoch of every member."""
        names = [name for name in self.history if name not in ("penalty", "val_penalty")]
        widths = [max(14, len(name)) for name in names]
        rates = [f"{r:.4g}" if isinstance(r, float) else r for r in _rates(self.members)]
        width = max(10, *map(len, rates))
        lines = [f"{'lam':>10} {'eta':>{width}} {'seed':>5} {'epochs':>6} "
                 + " ".join(map("{:>{}}".format, names, widths)) + "  status"]  # fmt: skip
        for i, member in enumerate(self.members):
            last = self.epochs[i] - 1
            values = [self.history[name][i, last] if last >= 0 else np.nan for name in names]
            lines.append(
                f"{member.lam:>10.4g} {rates[i]:>{width}} {member.seed:>5} {last + 1:>6} "
                + " ".join(map("{:>{}.5g}".format, values, widths))
                + f"  {self.status[i]}"
            )
        return "\n".join([*lines, *self.notes])


_SMALLER = ("loss", "error", "penalty")
_LARGER = ("accuracy", "auc", "precision", "recall")


def _grows(metric: str, mode: str | None) -> bool:
    """Whether a metric is better the larger it is."""
    if isinstance(mode, str) and mode in ("min", "max"):
        return mode == "max"
    if mode is None and metric.lower().endswith(_SMALLER):
        return False
    if mode is None and metric.lower().endswith(_LARGER):
        return True
    raise ValueError(
        _validation.error(
            '`mode` must be "min" or "max"; it can be left out for losses and accuracies.',
            f"metric={metric!r}, mode={_validation.shown(mode)}",
            f'Write best({metric!r}, mode="max") if more is better.',
        )
    )


def _rates(members: Sequence[Member]) -> list[float | str]:
    """The learning rates as `table` shows them."""
    schedules = {id(one.learning_rate): one.learning_rate for one in members
                 if not isinstance(one.learning_rate, float)}  # fmt: skip
    kinds: dict[str, list[int]] = {}
    for key, schedule in schedules.items():
        kinds.setdefault(type(schedule).__name__, []).append(key)
    names = {
        key: kind if len(keys) == 1 else f"{kind} {number}"
        for kind, keys in kinds.items()
        for number, key in enumerate(keys, start=1)
    }
    return [names.get(id(one.learning_rate)) or _shortest(one.learning_rate) for one in members]


def _shortest(rate: float) -> float:
    """0.1 where an optimizer's float32 variable has made 0.10000000149 of it."""
    single = np.float32(rate)
    return float(str(single)) if float(single) == rate else rate


def collect(
    template: Template, trained: Sequence[Trained], epochs: int, notes: Sequence[str]
) -> SweepResult:
    """The result of members that have been trained."""
    names = list(dict.fromkeys(name for one in trained for logs in one.history for name in logs))
    history = {name: np.full((len(trained), epochs), np.nan) for name in names}
    for i, one in enumerate(trained):
        for epoch, logs in enumerate(one.history):
            for name, value in logs.items():
                history[name][i, epoch] = value
    return SweepResult(
        members=tuple(one.member for one in trained),
        history=history,
        epochs=tuple(len(one.history) for one in trained),
        status=tuple(one.status for one in trained),
        weights=tuple(template.weights(one.state.weights) for one in trained),
        notes=tuple(notes),
        _template=template,
        _states=tuple(one.state.weights for one in trained),
    )
