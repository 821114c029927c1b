"""How the user calls the commands: `l2keras train`, or `python -m experiments.train`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath

from l2keras_experiments.config import paths

CONSOLE = "l2keras"


def enter_console() -> None:
    """Makes this process and its children print commands as `l2keras ...` and write to ./runs.

    Call it before the modules load that import `paths.RUNS`.
    """
    os.environ[paths.CONSOLE_VARIABLE] = str(Path.cwd())
    paths.RUNS = Path.cwd() / "runs"


def in_console() -> bool:
    """Whether the console command is the way to call the commands: always without a checkout."""
    return paths.INSTALLED or paths.CONSOLE_VARIABLE in os.environ


def words(name: str) -> list[str]:
    """The words that call a command.

    Args:
        name: Of its module in `experiments`, such as "check_grad".
    """
    if in_console():
        return [CONSOLE, name.replace("_", "-")]
    return ["python", "-m", f"experiments.{name}"]


def command(name: str, *arguments: str) -> str:
    """The command as a user types it, its arguments quoted for a shell."""
    return shlex.join([*words(name), *arguments])


def typed(arguments: Sequence[str]) -> list[str]:
    """The words that the user typed.

    Args:
        arguments: `sys.orig_argv` without the interpreter.
    """
    if arguments and PurePath(arguments[0]).stem == CONSOLE:
        return [CONSOLE, *arguments[1:]]
    return ["python", *arguments]


def install(extra: str) -> str:
    """The command that installs an extra."""
    if paths.INSTALLED:
        return f"pip install 'l2keras[{extra}]'"
    return f"pip install --editable '.[{extra}]'"
