"""WeightDecay: decay with a lambda, inside the compiled train step, for any optimizer."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

from l2keras import _optimizers, _validation, auditing, masks
from l2keras._report import AuditReport
from l2keras._train_function import DecayedTrainFunction, DecayRule, Lam

COUPLINGS = ("decoupled", "coupled", "independent")


class WeightDecay(keras.callbacks.Callback):
    """Decays weights inside the compiled train step, textbook convention.

    Convention: `lam` is the coefficient of `W` in the gradient. With W_t the weights, g the
    gradient of the loss at W_t (clipped, if the optimizer clips) and eta_t the learning rate,

        coupling="decoupled"      W <- (1 - eta_t * lam) * W_t - step(g)
        coupling="coupled"        W <- W_t - step(g + lam * W_t)
        coupling="independent"    W <- (1 - lam * eta_t / eta_peak) * W_t - step(g)

    The first is `torch.optim.AdamW(weight_decay=lam)` and, under plain SGD, the second; the
    second is `torch.optim.SGD` and `Adam(weight_decay=lam)`. Sources: Loshchilov and Hutter,
    arXiv 1711.05101; torch/optim/sgd.py, adam.py and adamw.py.

    Args:
        lam: Finite, non-negative float; or a `LearningRateSchedule`, or a callable of the step
            (a float tensor of rank 0: the count of updates, `optimizer.iterations`), that is
            evaluated inside the compiled step. Units: 1 / learning rate; for "independent"
            the fraction of W lost per step at the peak learning rate.
        coupling: "decoupled", "coupled" or "independent".
        include: Glob pattern(s) on `variable.path`, or a predicate on the variable: what is
            decayed. By default the trainable variables of rank >= 2 outside normalization
            layers: kernels and embeddings; no bias, gamma or beta.
        exclude: The same, taken away from what is included.
        peak_learning_rate: eta_peak for "independent". By default the peak of the optimizer's
            schedule, or its learning rate when `fit` begins.

    Raises:
        TypeError, ValueError: at construction for a bad argument; when `fit` begins for an
            optimizer that decays already or cannot take the coupling, a pattern that matches
            nothing, and groups that overlap.

    Adds to the epoch logs, for the last step of the epoch, `weight_decay` (lam) and
    `decay_per_step` (eta_t * lam, or lam * eta_t / eta_peak). Several callbacks give groups
    their own lam; the second logs `weight_decay_2`, and so on.

    When `fit` begins, `report` becomes the `AuditReport` of the model and of all WeightDecay
    callbacks (None before); its digest goes to the logger "l2keras" (INFO), its table too (DEBUG).

    Example:

    >>> layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    >>> model = keras.Sequential([keras.Input((1,)), layer])
    >>> model.compile(keras.optimizers.SGD(learning_rate=0.5), "mse")
    >>> zeros = keras.ops.zeros((1, 1))
    >>> history = model.fit(zeros, zeros, verbose=0, callbacks=[WeightDecay(0.5)])
    >>> float(model.get_weights()[0][0, 0])  # 1 - 0.5 * 0.5; the gradient is zero
    0.75
    >>> history.history["decay_per_step"]
    [0.25]
    """

    def __init__(
        self,
        lam: Lam,
        *,
        coupling: str = "decoupled",
        include: masks.Patterns = None,
        exclude: masks.Patterns = None,
        peak_learning_rate: float | None = None,
    ) -> None:
        super().__init__()
        self.lam = _check_lam_or_schedule(lam)
        self.coupling = _validation.check_choice(coupling, "coupling", COUPLINGS)
        masks.check_patterns(include, "include")
        masks.check_patterns(exclude, "exclude")
        self.include = include
        self.exclude = exclude
        self.peak_learning_rate = _check_peak(peak_learning_rate, coupling)
        self.report: AuditReport | None = None
        self._rule: DecayRule | None = None
        self._train_function: DecayedTrainFunction | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the decay into the train step of this `fit`."""
        model = self.model
        optimizer = model.optimizer
        if optimizer is None:
            raise ValueError(
                _validation.error(
                    "`WeightDecay` needs the optimizer of the model.",
                    "a model compiled without one",
                    "Pass model.compile(optimizer=...).",
                )
            )
        _optimizers.find_members(optimizer, model)
        _optimizers.check_supported(optimizer, self.coupling)
        self._rule = self._make_rule(optimizer)
        installed = model.train_function
        if not isinstance(installed, DecayedTrainFunction):
            installed = DecayedTrainFunction(model, previous=self._train_function)
        self._train_function = installed
        installed.add(self._rule)
        installed.callbacks.append(self)
        self.report = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Audits the model once in this `fit`, when every callback has begun."""
        self._audit()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Keeps the decay in, whatever another callback did to the train function."""
        if self._train_function is not None:
            self._train_function.install_again()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes `weight_decay` and `decay_per_step` into the epoch logs."""
        self._audit()  # of a model that got its variables in this epoch
        if self._rule is None or self._train_function is None or logs is None:
            return
        optimizers = _optimizers.inner_optimizers(self.model.optimizer)
        optimizer = self.model.optimizer
        if not self._train_function.reached and _optimizers.must_have_updated(optimizer):
            raise RuntimeError(_never_reached(optimizers[0]))
        suffix = _free_suffix(logs)
        step = keras.ops.maximum(optimizers[0].iterations - 1, 0)
        lam = float(self._rule.lam_at(step))
        rate = max(_optimizers.last_learning_rate(optimizer) for optimizer in optimizers)
        logs[f"weight_decay{suffix}"] = lam
        logs[f"decay_per_step{suffix}"] = lam * rate / (self._rule.peak or 1.0)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the decay out again."""
        if self._train_function is not None:
            self._train_function.uninstall()

    def _audit(self) -> None:
        """Sets `report`: the same for all callbacks of the `fit`, of which the first makes it."""
        if self.report is not None or self._train_function is None:
            return
        callbacks = self._train_function.callbacks
        made = (callback.report for callback in callbacks if callback.report is not None)
        self.report = next(made, None) or auditing.log_decay(self.model, callbacks)

    def _make_rule(self, optimizer: Any) -> DecayRule:
        lam = _check_lam_or_schedule(self.lam)  # the attribute may have been set since
        peak = None
        if self.coupling == "independent":
            inner = _optimizers.inner_optimizers(optimizer)
            peak = self.peak_learning_rate or max(map(_optimizers.peak_learning_rate, inner))
        rule = DecayRule(lam, self.coupling, self.include, self.exclude, peak)
        step = _optimizers.inner_optimizers(optimizer)[0].iterations + 0  # its value, a tensor
        _validation.check_lam(rule.lam_at(step), remedy="A callable of the step must return one.")
        return rule

    def __repr__(self) -> str:
        return f"WeightDecay({self.lam!r}, coupling={self.coupling!r})"


def _check_lam_or_schedule(lam: Any) -> Lam:
    if isinstance(lam, (keras.regularizers.Regularizer, type)):
        raise TypeError(
            _validation.error(
                "`lam` must be a float, a LearningRateSchedule or a callable of the step.",
                f"lam={lam!r}",
                "Pass the coefficient itself: HalfL2(0.1) is WeightDecay(0.1), and "
                "keras.regularizers.L2(0.1) is WeightDecay(0.2).",
            )
        )
    if isinstance(lam, LearningRateSchedule) or callable(lam):
        schedule: Lam = lam
        return schedule
    return _validation.check_lam(lam, remedy="For no decay leave the callback out.")


def _check_peak(peak: Any, coupling: str) -> float | None:
    if peak is None:
        return None
    if coupling != "independent":
        raise ValueError(
            _validation.error(
                '`peak_learning_rate` belongs to coupling="independent".',
                f"peak_learning_rate={peak!r} with coupling={coupling!r}",
                "Leave it out.",
            )
        )
    value = _validation.check_lam(peak, name="peak_learning_rate", remedy="Leave it out.")
    if value == 0 or not math.isfinite(value):
        raise ValueError(
            _validation.error(
                "`peak_learning_rate` must be positive.",
                f"peak_learning_rate={peak!r}",
                "Leave it out.",
            )
        )
    return value


def _free_suffix(logs: dict[str, Any]) -> str:
    taken = sum(key == "weight_decay" or key.startswith("weight_decay_") for key in logs)
    return f"_{taken + 1}" if taken else ""


def _never_reached(optimizer: Any) -> str:
    return _validation.error(
        "`WeightDecay` acts through Keras' own update, which this optimizer never ran.",
        f"optimizer={type(optimizer).__name__}",
        "Use an optimizer whose `apply` calls keras.optimizers.Optimizer.apply.",
    )
