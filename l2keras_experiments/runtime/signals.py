"""How a run is asked to stop: Ctrl-C and SIGTERM, once, and never lost on the way."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """SIGTERM came. Not an Exception, so that no handler on the way swallows it."""


# The first signal that came inside `stoppable`; None before.
_received: int | None = None
_received_at = 0.0
_held = False


@contextmanager
def stoppable() -> Iterator[None]:
    """Turns the first SIGTERM or SIGINT of the block into an exception; ignores what follows it.

    The first one interrupts whatever runs. Python drops an exception that a signal raises inside
    a finalizer, therefore `check` raises it again. A second one would cut what the first one
    set going, such as writing the last metrics. Blocks nest; only the outermost counts. Outside
    the main thread, where Python handles no signals, the block does nothing.
    """
    global _received
    if threading.current_thread() is not threading.main_thread() or _active():
        yield
        return
    _received = None
    previous = {number: signal.signal(number, _stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _received = None


@contextmanager
def held() -> Iterator[None]:
    """A signal of the block is raised when the block ends, unless an exception ends it."""
    global _held
    outer, _held = _held, True
    before = _received
    try:
        yield
    finally:
        _held = outer
    if before is None:
        check()


def requested() -> bool:
    """Whether a signal has come."""
    return _received is not None


def left(seconds: float) -> float:
    """What is left of so many seconds since the signal came, for those who end one by one."""
    return seconds if _received is None else max(0.5, _received_at + seconds - time.monotonic())


def check() -> None:
    """Raises what a signal asked for, if it has been asked for and is not held."""
    if _held:
        return
    if _received == signal.SIGTERM:
        raise Terminated("SIGTERM")
    if _received == signal.SIGINT:
        raise KeyboardInterrupt


def _active() -> bool:
    return signal.getsignal(signal.SIGTERM) is _stop


def _stop(signum: int, frame: FrameType | None) -> None:
    global _received, _received_at
    if _received is None:
        _received, _received_at = signum, time.monotonic()
        check()
