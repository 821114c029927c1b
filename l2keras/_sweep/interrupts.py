"""Ctrl-C, kept until a step is whole: halfway, some weights would be of the step before."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_heard: list[int] = []


@contextmanager
def postponed() -> Iterator[None]:
    """Inside the block Ctrl-C waits for the next `raise_if_heard`; a second one does not.

    Only Python's own handler is replaced, and there is none but in the main thread.
    """
    _heard.clear()
    try:
        ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if ours:
            signal.signal(signal.SIGINT, _hear)
    except ValueError:  # not in the main thread
        ours = False
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _hear(number: int, frame: FrameType | None) -> None:
    if _heard:
        raise KeyboardInterrupt
    _heard.append(number)


def raise_if_heard() -> None:
    """Raises KeyboardInterrupt if Ctrl-C was pressed inside the block."""
    if _heard:
        _heard.clear()
        raise KeyboardInterrupt
