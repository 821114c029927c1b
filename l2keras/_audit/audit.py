"""`audit`: what is decayed in a model, how strongly and by what. One row for every variable.

One walk over the variables, and no tensor is computed for any of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from l2keras import _calls, _validation
from l2keras._audit import callback_decay, findings
from l2keras._audit.report import AuditReport
from l2keras._audit.rows import SEVERITIES, CallbackDecay, Finding, Row
from l2keras._audit.subject import Item, Subject
from l2keras._audit.trainers import Trainer, Trainers
from l2keras._keras.variables import ModelVariable, has_variables, model_variables
from l2keras._roles import role_of
from l2keras.regularizers import Terms, terms_of

_LOGGER = logging.getLogger("l2keras")


@_calls.explained("audit")
def audit(model: Any, callbacks: Sequence[Any] = ()) -> AuditReport:
    """Reports, for each variable of `model`, what decays it, and what looks wrong about that.

    Convention: every `lam` in the report is the coefficient of `W` in the gradient, the half
    convention, whatever it was written as:

        keras.regularizers.L2(c)        2 * c      in the gradient: coupled
        HalfL2(lam)                     lam        in the gradient: coupled
        optimizer weight_decay=c        c          W <- (1 - eta * c) * W: decoupled
        WeightDecay(lam)                lam        by its coupling; independent: lam / eta_peak

    Frozen variables are not decayed: Keras leaves their penalty out of the loss. Not seen are a
    penalty that a layer adds with `add_loss` or on its activity, that a `compute_loss` of one's own
    adds or leaves out, and the l2 arguments of Ftrl; nor what a step was traced with that has been
    compiled before. Findings say where that may be so.

    By default decay applies to kernels and embeddings, and not to biases, normalization
    parameters, gains or slopes. `row.reason` says for each variable which it is, and why.
    Nothing is changed, neither the model nor its optimizer. Source: keras/src/layers/layer.py
    and keras/src/optimizers/base_optimizer.py.

    Args:
        model: A Keras model that has its variables, compiled or not: functional, subclassed,
            nested, quantized, with LoRA.
        callbacks: Those that `fit` will get. `WeightDecay` counts as decay; any that watches
            `loss` or `val_loss` is looked at too.

    Returns:
        An `AuditReport`: print it, or read its `rows`, `totals`, `findings` and `digest`.

    Raises:
        TypeError: `model` is no Keras model, or `callbacks` holds something else.
        ValueError: the model has no variables yet.

    Example:

    >>> layers = [keras.layers.Dense(3, kernel_regularizer="l2", name="a"), keras.layers.Dense(1)]
    >>> model = keras.Sequential([keras.Input((4,)), *layers], name="mlp")
    >>> model.compile(keras.optimizers.SGD(learning_rate=0.5, weight_decay=1e-4), "mse")
    >>> report = audit(model)
    >>> row = report.row("mlp/a/kernel")
    >>> row.lam_regularizer, row.lam_optimizer  # "l2" is L2(0.01)
    (0.02, 0.0001)
    >>> report.codes()[0]
    'decayed-twice'
    """
    _check_model(model)
    callbacks = _callback_list(callbacks)
    decays, failures = callback_decay.decay_by_callbacks(model, callbacks)
    trainers = Trainers(model)
    items = list(_items(model, trainers, decays))
    others = tuple(callback for callback in callbacks if id(callback) not in failures)
    subject = Subject(model, others, tuple(items))
    found: list[Finding] = [*failures.values(), *findings.examine(subject)]
    return AuditReport(
        model=str(model.name),
        optimizers=trainers.lines,
        rows=tuple(item.row for item in items),
        findings=tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))),
    )


def log_report(report: AuditReport) -> None:
    """Logs the digest (INFO) and the table (DEBUG) of a report."""
    _LOGGER.info("%s", report.summary())
    _LOGGER.debug("%s", report)  # made into text only where somebody listens


def log_findings(found: Iterable[Finding]) -> None:
    """Logs errors, and decay that turns signs, as a WARNING with their code and remedy."""
    for finding in found:
        if finding.severity == "error" or finding.code == "decay-turns-signs":
            _LOGGER.warning("%s", finding)


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise TypeError(
            _validation.error(
                "`audit` takes a Keras model.",
                f"model={_validation.shown(model)} of type {type(model).__name__}",
                "Pass a keras.Model: audit(model, callbacks).",
            )
        )
    if not has_variables(model):
        raise ValueError(
            _validation.error(
                "`audit` needs a model that has its variables.",
                f"{type(model).__name__} {model.name!r}, which is not built",
                "Begin it with keras.Input, call model.build(input_shape), or call it on data.",
            )
        )


def _callback_list(callbacks: Any) -> list[Any]:
    """The callbacks one by one; None, a CallbackList and a single callback are taken too."""
    if isinstance(callbacks, keras.callbacks.Callback):
        callbacks = getattr(callbacks, "callbacks", [callbacks])
    try:
        found = list(callbacks or ()) if isinstance(callbacks, Iterable | None) else [callbacks]
    except Exception:  # whatever the code of the value raises
        found = [callbacks]
    if all(isinstance(callback, keras.callbacks.Callback) for callback in found):
        return found
    raise TypeError(
        _validation.error(
            "`callbacks` must hold Keras callbacks.",
            f"callbacks={_validation.shown(callbacks)}",
            "Pass those that fit will get.",
        )
    )


def _items(
    model: Any, trainers: Trainers, decays: dict[int, list[CallbackDecay]]
) -> Iterable[Item]:
    known: dict[int, Terms] = {}
    for entry in model_variables(model):
        variable = entry.variable
        trainer = trainers.of(variable) if _is_updated(model, variable) else None
        regularizer = variable.regularizer
        if id(regularizer) not in known:
            known[id(regularizer)] = terms_of(regularizer)
        row = _row(model, entry, trainer, known[id(regularizer)], decays)
        yield Item(row, variable, entry.owner, trainer.optimizer if trainer else None)


def _row(
    model: Any,
    entry: ModelVariable,
    trainer: Trainer | None,
    terms: Terms,
    decays: dict[int, list[CallbackDecay]],
) -> Row:
    variable, role = entry.variable, role_of(entry)
    trainable = _is_updated(model, variable)
    lam_optimizer = trainer.own_decay(variable) if trainer else 0.0
    acting = tuple(decays.get(id(variable), [])) if trainable else ()
    lam_regularizer = terms.lam if trainable else 0.0
    coupled = _sum([lam_regularizer, *(d.effective for d in acting if d.coupling == "coupled")])
    others = _sum([lam_optimizer, *(d.effective for d in acting if d.coupling != "coupled")])
    return Row(
        path=entry.path,
        shape=tuple(int(size) for size in variable.shape),
        dtype=str(variable.dtype),
        role=entry.role,
        kind=role.kind,
        layer=type(entry.owner).__name__,
        trainable=trainable,
        reason=role.decision(bool(acting) if decays else None) if trainable else "not trained",
        is_guess=role.is_guess,
        regularizer=terms.text,
        lam_regularizer=lam_regularizer,
        l1=terms.l1 if trainable else 0.0,
        lam_optimizer=lam_optimizer,
        callbacks=acting,
        lam=_sum([coupled, others]),
        learning_rate=trainer.learning_rate if trainer else None,
        shrink=None if any(d.depends for d in acting) else _shrink(trainer, coupled, others),
    )


def _is_updated(model: Any, variable: Any) -> bool:
    """Whether the optimizer steps it; the scales of float8 are overwritten instead."""
    trained = model.trainable and variable.trainable
    return bool(trained and not variable.overwrite_with_gradient)


def _sum(parts: Iterable[float | None]) -> float | None:
    """The sum; None where a part is not known."""
    known = list(parts)
    return None if None in known else float(sum(part for part in known if part is not None))


def _shrink(trainer: Trainer | None, coupled: float | None, others: float | None) -> float | None:
    """The fraction of W lost per step, where the coefficients alone determine it."""
    if trainer is None or coupled is None or others is None:
        return None
    if coupled and trainer.coupled_gain is None:
        return None
    return trainer.learning_rate * (others + coupled * (trainer.coupled_gain or 1.0))
