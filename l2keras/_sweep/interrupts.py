"""Ctrl-C, kept until a step is whole: halfway, some weights would be of the step before."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_Signal = tuple[int, FrameType | None]

_MARK = "l2keras_handler"  # of what a handler has raised

_heard: list[_Signal] = []
_here = threading.local()  # of each thread: whether it is in `held`; the main thread hears Ctrl-C
_handler: Callable[[int, FrameType | None], Any] = signal.default_int_handler


@contextmanager
def postponed() -> Iterator[None]:
    """Inside the block Ctrl-C waits for the next `raise_if_heard`; a second one does not.

    What is then called is the handler that is replaced here: Python's own, or one of the user's.
    There is none but in the main thread, and none of ours inside another such block.
    """
    global _handler
    handler = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or handler is _hear or not callable(handler):
        yield
        return
    _handler = handler
    _heard.clear()
    signal.signal(signal.SIGINT, _hear)
    try:
        yield
    except BaseException:
        _heard.clear()  # it is ended as Ctrl-C would have ended it
        raise
    finally:
        signal.signal(signal.SIGINT, handler)
    raise_if_heard()


def _hear(number: int, frame: FrameType | None) -> None:
    again = bool(_heard)
    _heard.append((number, frame))
    if again and not getattr(_here, "held", False):
        raise_if_heard()


@contextmanager
def held() -> Iterator[None]:
    """Inside the block a second Ctrl-C waits, too; for what takes no time and must not be cut."""
    _here.held = True
    try:
        yield
    finally:
        _here.held = False


def raise_if_heard() -> None:
    """Has Ctrl-C handled if it was pressed inside the block: Python raises KeyboardInterrupt."""
    if _heard:
        last = _heard[-1]
        _heard.clear()
        try:
            _handler(*last)
        except BaseException as error:
            vars(error)[_MARK] = True
            raise


def comes_from_handler(error: BaseException) -> bool:
    """Whether a handler of Ctrl-C has raised it."""
    return _MARK in vars(error)
