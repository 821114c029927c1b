"""AuditReport: what an audit found, for the terminal, for notebooks and for logs."""

from __future__ import annotations

from dataclasses import dataclass

from l2keras import _calls, _validation
from l2keras._audit import render
from l2keras._audit.rows import Audited


@dataclass(frozen=True, repr=False)
class AuditReport(Audited):
    """What is decayed in a model, how strongly and by what, and what looks wrong.

    Convention: every `lam` is the coefficient of `W` in the gradient, the half convention;
    `keras.regularizers.L2(c)` counts as 2 * c.

    `print(report)` shows the table, a notebook shows it as HTML, `to_dict()` is for logs, and
    `digest` tells two runs apart. `l2keras.audit` makes it.

    Attributes:
        model: The name of the model.
        optimizers: One line for each optimizer: its class and learning rate.
        rows: One `Row` for each variable, in the order of `model.weights`.
        findings: The `Finding`s, the worst first.

    Example:

    >>> import keras, l2keras
    >>> layer = keras.layers.Dense(3, kernel_regularizer=l2keras.HalfL2(0.5), name="head")
    >>> report = l2keras.audit(keras.Sequential([keras.Input((4,)), layer], name="mlp"))
    >>> report.totals["decayed"]
    {'tensors': 1, 'parameters': 12}
    >>> report.row("mlp/head/kernel").lam
    0.5
    """

    def summary(self) -> str:
        """One line for a log: the digest, the totals, the number of findings."""
        return render.summary(self)

    @_calls.explained("to_text")
    def to_text(self, width: int | None = None, *, reasons: bool = False) -> str:
        """The table for a terminal of `width` columns; by default those of the terminal.

        With `reasons` it also says for each variable whether decay applies by default, and why.
        """
        if width is not None:
            width = _validation.check_count(width, "width", "Pass a number of columns.")
        _validation.check_one_of(reasons, "reasons", (True, False))
        return render.text(self, width, reasons=reasons)

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"<AuditReport {self.summary()}>"

    def _repr_html_(self) -> str:
        return render.html_page(self)
