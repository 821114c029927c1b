"""The way into and out of every command: a mistake is one line on stderr and exit status 2.

Commands raise; only this module prints what was wrong and chooses the exit status.
"""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from l2keras_experiments.config import credentials
from l2keras_experiments.config.messages import MISTAKE, SHOW_TRACEBACKS, UNEXPECTED, line, named
from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.config.targets import TargetError
from l2keras_experiments.runtime.outcome import DivergedError
from l2keras_experiments.runtime.signals import Terminated

# As the user has set it; `composition` sets it for Hydra's own use.
_WANTED = os.environ.get(SHOW_TRACEBACKS) == "1"


class Parser(argparse.ArgumentParser):
    """Raises a ConfigError where argparse would print its usage."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(
            f"The arguments must be those of `{self.prog}`. Received: {message.rstrip('.')}. "
            "--help shows them."
        )


def run(command: Callable[[], Any]) -> NoReturn:
    """Runs a command and ends the process with its status."""
    _end(status(command))


def status(command: Callable[[], Any]) -> int:
    """Runs a command and returns its exit status.

    2 for a mistake of the user, 1 for an unexpected error, and what shells give to Ctrl-C and
    SIGTERM. Each error is one line.
    """
    try:
        return _code(command())
    except SystemExit as end:
        return _code(end.code)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Terminated:
        return 128 + signal.SIGTERM
    except Exception as error:
        return failed(error)


def failed(error: Exception) -> int:
    """Prints an error in one line; returns the exit status."""
    if _WANTED:
        traceback.print_exception(error)
    elif isinstance(error, ConfigError | DivergedError):
        print(f"error: {line(str(error))}", file=sys.stderr)
    else:
        print(f"error: {line(_unexpected(error))}", file=sys.stderr)
    return MISTAKE if isinstance(error, ConfigError | TargetError) else UNEXPECTED


def _unexpected(error: Exception) -> str:
    """What happened and where the traceback is."""
    text = str(error).rstrip(".")
    what = text if isinstance(error, TargetError) else named(error, text)
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="l2keras-", suffix=".txt", delete=False, errors="backslashreplace"
        ) as file:
            file.write(credentials.masked("".join(traceback.format_exception(error))))
    except OSError:
        return f"{what}. To see the traceback set {SHOW_TRACEBACKS}=1."
    return f"{what}. The traceback is in {file.name}; {SHOW_TRACEBACKS}=1 shows it here."


def _code(returned: Any) -> int:
    """The exit status for what a command returns or sys.exit was given."""
    if isinstance(returned, str):
        print(line(returned), file=sys.stderr)
        return UNEXPECTED
    return returned if isinstance(returned, int) else 0


def _end(code: int) -> NoReturn:
    """Ends the process at once: to free TensorFlow's graphs one by one can take it minutes."""
    threading._shutdown()  # type: ignore[attr-defined]  # as Python itself: ends joblib's workers
    atexit._run_exitfuncs()
    logging.shutdown()
    with suppress(BrokenPipeError):  # `| head` has seen enough
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
