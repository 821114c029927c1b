"""What a backend has no form for over stacked weights, by the name of its layer."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import keras

from l2keras import _validation

_OPERATION = re.compile(r"No pfor vectorization defined for (\w+)\s+name: \"([^\"]*)\"")
# It has a form, but not of what is stacked here.
_FORM = re.compile(r"of op '(\w+)' expected to be (?:not )?loop invariant")
_KINDS = {keras.Layer: "layer", keras.metrics.Metric: "metric", keras.losses.Loss: "loss"}


class NotVectorizedError(ValueError):
    """An operation of the model has no form over stacked weights."""


@contextmanager
def naming_the_layer() -> Iterator[None]:
    """Raises NotVectorizedError for what the backend refuses inside the block.

    TensorFlow writes pages about it to its log before: these are left out.
    """
    logger, held = logging.getLogger("tensorflow"), list[logging.LogRecord]()

    def hold(record: logging.LogRecord) -> bool:
        if record.levelno == logging.ERROR:
            held.append(record)
        return record.levelno != logging.ERROR

    logger.addFilter(hold)
    filtered = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()  # which drops the frames of Keras' own layers
    try:
        yield
    except (ValueError, RuntimeError, NotImplementedError) as error:  # of TensorFlow, torch, JAX
        refused = _refused(error)
        if refused is None:
            raise
        held.clear()
        raise NotVectorizedError(refused) from error
    finally:
        logger.removeFilter(hold)
        for record in held:
            logger.handle(record)
        if filtered:
            keras.config.enable_traceback_filtering()


def _refused(error: Exception) -> str | None:
    """What was refused and where; None if the error is another one."""
    text = str(error)
    operation = _OPERATION.search(text)
    if operation:
        kind, name = operation.groups()
        return _worded(f"the operation {kind} in {_place(name)}", kind)
    form = _FORM.search(text)
    if form:
        kind, name = form.group(1), _converted(error.__traceback__)
        return _worded(f"the operation {kind} in {_place(name)}", kind)
    if "vmap" in text or "Batching rule" in text:
        return _worded(f"{_layer(error.__traceback__)}: {text.splitlines()[0]}")
    return None


def _place(name: str) -> str:
    """The layer that an operation of this name belongs to."""
    return name.removeprefix("loop_body/").rpartition("/")[0] or "the loss or a metric"


def _converted(traceback: TracebackType | None) -> str:
    """The name of the operation that TensorFlow was converting."""
    found = ""
    while traceback is not None:
        found = getattr(traceback.tb_frame.f_locals.get("y_op"), "name", found)
        traceback = traceback.tb_next
    return found


def _layer(traceback: TracebackType | None) -> str:
    """The innermost layer, metric or loss that was being called."""
    found = "the loss or a metric"
    while traceback is not None:
        owner = traceback.tb_frame.f_locals.get("self")
        for kind, word in _KINDS.items():
            if isinstance(owner, kind):
                found = f"the {word} {owner.name} ({type(owner).__name__})"
        traceback = traceback.tb_next
    return found


def _worded(what: str, operation: str = "") -> str:
    instead = "Pass use_cudnn=False to the layer" if "Cudnn" in operation else "Leave it out"
    return _validation.error(
        "`sweep` needs a model whose operations have a form over stacked weights.",
        what,
        f"{instead}, or train the members one by one, with WeightDecay or HalfL2.",
    )
