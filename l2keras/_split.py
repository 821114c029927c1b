"""The split of a model's loss: what it puts into the model for one `fit` or `evaluate`.

The functions that Keras compiles with the split in it are held by the model's own train function
(in a lone `evaluate`, by its test function), and used again in the next `fit`. So they are as
long of use as Keras' own: `compile` and `make_train_function(force=True)` drop both.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from types import FrameType
from typing import Any

import keras
from keras import ops

from l2keras import _validation
from l2keras._decay.train_function import DecayedTrainFunction
from l2keras._keras import inner_functions, optimizers
from l2keras._keras.losses import (
    add_container,
    add_metrics,
    can_update_metrics,
    collected,
    is_readable,
    remove_metrics,
    unwatch,
    watch,
)
from l2keras._keras.retrace import sync_state
from l2keras._keras.shares import loss_and_penalty

_KEY = "_l2keras_split"


class _Part(keras.metrics.Mean):
    """The mean over an epoch, nan before its first step: over its samples, and over its steps."""

    _direction = "down"  # less is better: EarlyStopping(mode="auto") reads this

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        zero = keras.initializers.Zeros()
        self.sum_of_steps = self.add_variable((), zero, name="sum_of_steps")
        self.steps = self.add_variable((), zero, name="steps")

    def add(self, value: Any, samples: Any) -> None:
        """Adds what one step has."""
        super().update_state(value, sample_weight=samples)
        self.sum_of_steps.assign(self.sum_of_steps + value)
        self.steps.assign(self.steps + 1)

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: a step of the user's own may update all metrics of the model in a loop."""

    def mean(self, count: Any) -> Any:
        """The mean over the steps where `count`, of the loss in the logs, is theirs."""
        of_samples = self.total / self.count
        if count is None:
            return of_samples
        is_of_steps = ops.equal(count, self.steps)
        return ops.where(is_of_steps, self.sum_of_steps / self.steps, of_samples)

    def result(self) -> Any:
        return self.mean(None)

    def reset_state(self) -> None:
        for variable in self.variables:
            variable.assign(ops.zeros((), variable.dtype))


class _Step:
    """What happens in one step, or while it is traced."""

    def __init__(self) -> None:
        self.losses = 0
        self.penalties: list[Any] = []
        self.is_hidden = False  # the parts from the logs, in a tf.function of the user's
        self.is_stateless = False  # `compute_loss`, which can update no metric then

    def collect(self, values: Any) -> list[Any]:
        self.penalties.extend(values)
        return list(values)


_STEP: ContextVar[_Step | None] = ContextVar("step", default=None)


class Split:
    """Stands in for `model.compute_loss`, and adds up the two parts of what it returns."""

    def __init__(self, model: Any, kinds: tuple[str, ...]) -> None:
        self.problem: str | None = None
        self._model = model
        self._functions = [_Function(model, kind, self._end_step) for kind in kinds]
        strategy = getattr(model, "distribute_strategy", None)  # TensorFlow's
        with nullcontext() if strategy is None else strategy.scope():
            self._parts = _Part(name="data_loss"), _Part(name="penalty")
        self._container = add_metrics(model, self._parts)
        self._container.reset_state = self._reset
        self._container.result = self._result
        self._container.update_state = _Part.update_state.__get__(self._container)
        remove_metrics(model, self._container)

    def begin(self, run: FrameType | None) -> None:
        """Takes the loss apart in every step of `run`, the frame of a `fit` or `evaluate`."""
        self._run, self.problem = run, None
        model = self._model
        self._compute_loss = model.compute_loss
        add_container(model, self._container)
        self.check_names()
        self._kept = {key: value for key, value in vars(model).items() if key == "compute_loss"}
        vars(model)["compute_loss"] = self
        self._watched = watch(model)
        for function in self._functions:
            function.install()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        def compute_loss() -> Any:
            return self._compute_loss(*args, **kwargs)

        step = _STEP.get()
        if step is None:  # called outside of the steps of the model
            return compute_loss()
        self._check_traced_anew()
        step.losses += 1
        if not can_update_metrics():
            step.is_stateless = True
            return compute_loss()
        loss, share = loss_and_penalty(compute_loss, self._model, step.penalties)
        step.penalties.clear()
        # A tf.function evaluates penalties while it is traced only.
        if share is None or hasattr(self._compute_loss, "get_concrete_function"):
            self.problem, share = unknown(self._model), None
        elif step.losses > 1:
            self.problem, share = self._not_once("step", step.losses), None
        self._update(loss, share, _samples(args, kwargs))
        return loss

    def _update(self, loss: Any, share: Any, samples: Any) -> None:
        data_loss, penalty = self._parts
        replicas = optimizers.num_replicas()
        share = ops.cast(float("nan") if share is None else share, penalty.dtype) * replicas
        known = self.problem is None
        total = ops.cast(ops.stop_gradient(loss), penalty.dtype) * replicas if known else share
        data_loss.add(total - share, samples)
        penalty.add(share, samples)

    def refresh(self, kind: str) -> None:
        """Follows a function that was made again in mid-fit, by `compile` or `attach`."""
        for function in self._functions:
            if function.kind == kind:
                function.refresh()

    def check_names(self) -> None:
        """Raises where a metric of the model has one of the two names."""
        others = [metric for metric in self._model.metrics if metric is not self._container]
        names = [m.name for metric in others for m in (metric, *getattr(metric, "metrics", []))]
        taken = [part.name for part in self._parts if part.name in names]
        if taken:
            self.remove()
            raise ValueError(_name_taken(taken[0]))

    def end(self) -> None:
        """Leaves the model as it was, when its `fit` or `evaluate` ends."""
        if isinstance(self._model.train_function, DecayedTrainFunction):
            self._model.train_function.uninstall()  # it knows then that it stood in for ours
        self.remove()

    def remove(self) -> None:
        """Leaves the model as it was."""
        model = self._model
        self._run = None  # a frame keeps all its variables alive
        if vars(model).get("compute_loss") is self:
            vars(model).pop("compute_loss")
            vars(model).update(self._kept)
            unwatch(self._watched)
            remade = [function for function in self._functions if not function.remove()]
            for function in self._functions:
                function.restore(is_valid=not remade and self.problem is None)
        remove_metrics(model, self._container)

    def is_running(self) -> bool:
        """Whether the `fit` or `evaluate` still runs; else it ended in an exception."""
        frame = inspect.currentframe()
        while frame is not None and frame is not self._run:
            frame = frame.f_back
        return frame is not None

    def _result(self) -> dict[str, Any]:
        if inner_functions.is_inside():  # its trace would have the parts in later fits
            step = _STEP.get()
            if step is not None:
                step.is_hidden = True
            return {}
        tracker = self._tracker()
        count = tracker.count if tracker is not None and is_readable(tracker.count) else None
        return {part.name: part.mean(count) for part in self._parts}

    def _tracker(self) -> Any:
        """The metric that averages the loss in the logs; None where there is none."""
        trackers = (metric for metric in self._model.metrics if metric.name == "loss")
        return next((one for one in trackers if isinstance(one, keras.metrics.Mean)), None)

    def _end_step(self, kind: str, step: _Step, result: Any) -> Any:
        """Checks a step of the model, and puts the parts into what it returns if it could not."""
        if step.losses != 1:
            self.problem = self._not_once(f"{kind}_step", step.losses)
        elif step.is_stateless:
            return self._with_parts_of_a_loss(step, result)
        hidden = step.is_hidden or inner_functions.compiled_functions(self._model)
        if not hidden or not isinstance(result, dict) or self._parts[0].name in result:
            return result
        is_listed = any(metric is self._container for metric in self._model.metrics)
        return {**result, **self._result()} if is_listed else result

    def _with_parts_of_a_loss(self, step: _Step, result: Any) -> Any:
        """The logs and state of a step of JAX whose loss is data loss as a whole.

        The parts are then those of the metric that averages the loss.
        """
        logs, (*others, metrics) = result
        tracker = self._tracker()
        if step.penalties or tracker is None or not isinstance(logs, dict):
            self.problem = unknown(self._model)
            return result
        metrics = list(metrics)
        index = {id(one): number for number, one in enumerate(self._model.metrics_variables)}
        total, count = (metrics[index[id(one)]] for one in (tracker.total, tracker.count))
        means = {}
        for part, value in zip(self._parts, (total, ops.zeros_like(total)), strict=True):
            metrics[index[id(part.total)]] = value
            metrics[index[id(part.count)]] = count
            means[part.name] = value / count
        nested = {key: value for key, value in logs.items() if key != self._container.name}
        return {**nested, **means}, (*others, metrics)

    def _check_traced_anew(self) -> None:
        try:
            inner_functions.check_traced_anew("`PenaltySplit`")
        except RuntimeError as error:
            self.problem = str(error)  # what was traced is dropped
            raise

    def _reset(self) -> None:
        """Keras resets the metrics when an epoch or evaluation begins: does our `fit` still run?"""
        if not self.is_running():  # it ended in an exception, and this is another
            self.remove()
        for part in self._parts:
            part.reset_state()

    def _not_once(self, step: str, losses: int) -> str:
        functions = inner_functions.compiled_functions(self._model)
        return _not_once(f"{type(self._model).__name__}, whose {step}", losses, functions)


def split_for(model: Any, *, in_fit: bool) -> Split:
    """The split of an earlier `fit`, if the model was not compiled again since, or a new one.

    Raises:
        ValueError: the loss of the model is being split already.
    """
    left_over = vars(model).get("compute_loss")
    if isinstance(left_over, Split):
        second = left_over.is_running()  # else a `fit` that ended in an exception
        left_over.remove()
        if second:
            raise ValueError(_second())
    kinds = ("train", "test") if in_fit else ("test",)
    held = getattr(_installed(model, kinds[0]), "__dict__", {})
    split: Split = held.get(_KEY) or Split(model, kinds)
    held[_KEY] = split
    return split


class _Function:
    """The train or test function of a model: Keras' own, and one with the split in it."""

    def __init__(self, model: Any, kind: str, end_step: Callable[[str, _Step, Any], Any]) -> None:
        self.kind = kind
        self._model = model
        self._end_step = end_step
        self._keras_step = getattr(model, f"{kind}_step")
        self._step = self._new_step()
        self._function: Any = None  # with the split in it
        # Held while the split is installed only: jax.jit would share its trace with a later one.
        self._keras_function: Any = None
        self._keras_reference: Callable[[], Any] | None = None
        self._was_remade = False

    def install(self) -> None:
        """Puts the split function in, and the step from which Keras makes another."""
        model, name = self._model, f"{self.kind}_step"
        keras_function = _installed(model, self.kind)
        if self._keras_reference is not None and self._keras_reference() is not keras_function:
            self._function, self._step = None, self._new_step()
        self._keras_function, self._was_remade = keras_function, False
        self._kept = {key: value for key, value in vars(model).items() if key == name}
        vars(model)[name] = self._step
        if keras_function is not None:
            self._function = self._function or self._made()
            self._put(self._function)

    def refresh(self) -> None:
        """Follows a function that was made again in mid-fit, by `compile` or `attach`."""
        installed = _installed(self._model, self.kind)
        if self._function is None:
            self._function = installed  # made when the first validation began
        elif installed is not None and installed is not self._function:
            # jax.jit shares its cache among equal functions: the new one gets its own step.
            self._was_remade = True
            sync_state(self._model)
            self._step = vars(self._model)[f"{self.kind}_step"] = self._new_step()
            self._function = self._made()
            self._put(self._function)

    def remove(self) -> bool:
        """Takes the step out; False where the function was made again meanwhile."""
        vars(self._model).pop(f"{self.kind}_step", None)
        vars(self._model).update(self._kept)
        installed = _installed(self._model, self.kind)
        self._function = self._function or installed
        return not self._was_remade and installed is self._function

    def restore(self, *, is_valid: bool) -> None:
        """Puts Keras' own function back, or a new one; a running `fit` needs one."""
        keras_function, self._keras_function = self._keras_function, None
        self._keras_reference = None if keras_function is None else _reference(keras_function)
        if not is_valid:
            vars(keras_function or self).pop(_KEY, None)
            self._function = keras_function = None
        if _installed(self._model, self.kind) is not None:
            self._put(keras_function or self._made())

    def _new_step(self) -> Callable[..., Any]:
        end_step, kind, keras_step = self._end_step, self.kind, self._keras_step

        def step(*args: Any) -> Any:
            with _recorded() as record, inner_functions.step():
                return end_step(kind, record, keras_step(*args))

        return step

    def _made(self) -> Any:
        """A function that Keras makes from the step that the model has now."""
        model, name = self._model, f"{self.kind}_function"
        installed = getattr(model, name)
        getattr(type(model), f"make_{name}")(model, force=True)
        made = getattr(model, name)
        setattr(model, name, installed)
        return made

    def _put(self, function: Any) -> None:
        installed = self._model.train_function
        if self.kind == "train" and isinstance(installed, DecayedTrainFunction):
            installed.keras_function = function
        else:
            setattr(self._model, f"{self.kind}_function", function)


def _reference(function: Any) -> Callable[[], Any]:
    """A weak reference, where the function takes one."""
    try:
        return weakref.ref(function)
    except TypeError:
        return lambda: None


def _samples(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The number of samples, of `compute_loss(x, y, y_pred)`; Keras weighs the loss by it."""
    given = {**dict(zip(("x", "y", "y_pred"), args, strict=False)), **kwargs}
    leaves = keras.tree.flatten((given.get("x"), given.get("y_pred")))
    return next((ops.shape(leaf)[0] for leaf in leaves if len(getattr(leaf, "shape", ()))), 1)


def _installed(model: Any, kind: str) -> Any:
    """The function that Keras made, also where a WeightDecay stands in for it."""
    function = getattr(model, f"{kind}_function")
    return function.keras_function if isinstance(function, DecayedTrainFunction) else function


@contextmanager
def _recorded() -> Iterator[_Step]:
    record = _Step()
    token = _STEP.set(record)
    try:
        with collected(record.collect):
            yield record
    finally:
        _STEP.reset(token)


def _second() -> str:
    return _validation.error(
        "A model's loss is split by one `PenaltySplit`.",
        "a second one in the same `fit` or `evaluate`",
        "Pass one PenaltySplit only.",
    )


def _not_once(name: str, losses: int, functions: Sequence[str]) -> str:
    times = f"calls it {losses} times" if losses else "does not call it"
    remedy = "Call self.compute_loss once in each train_step and test_step, or drop PenaltySplit."
    if functions and not losses:
        times += f", or in the tf.function {', '.join(functions)}, traced before"
        remedy = f"{inner_functions.REMEDY}. {remedy}"
    return _validation.error(
        "`PenaltySplit` needs one call of `compute_loss` in each step.",
        f"{name} {times}",
        remedy,
    )


def unknown(model: Any) -> str:
    """The message for a loss in which the penalty cannot be told."""
    return _validation.error(
        "`PenaltySplit` needs a scalar loss that is linear in the penalties.",
        f"the compute_loss of {type(model).__name__}, whose loss is not, or that hides them in a "
        "compiled function of its own",
        "Add the penalties, or a multiple of them, to the loss; or drop PenaltySplit.",
    )


def _name_taken(name: str) -> str:
    return _validation.error(
        "`PenaltySplit` logs `data_loss` and `penalty`.",
        f"a model with a metric named {name}",
        "Rename the metric.",
    )
