"""The console command `l2keras`: conversions of the library, and the experiments.

A command loads only what it needs: `l2keras --help` and `l2keras convert` load no backend.
"""

from __future__ import annotations

import difflib
import importlib
import re
import runpy
import sys
from importlib import metadata

from l2keras_experiments.config import program

MISTAKE = 2  # exit status, as config.messages has it, which needs the extra
EXTRA = "experiments"  # the extra of the package that brings what the experiments import
LIBRARY = {
    "convert": "convert a coefficient of weight decay from one system to another",
    "conventions": "list the systems: update rule, lam, source",
}
# Name: the module whose `main` runs it, and its line in --help.
EXPERIMENTS = {
    "train": ("console.train", "one run, or a sweep with -m: key=value ... [--config-dir DIR]"),
    "compare": ("console.compare", "every way to write one lambda, side by side"),
    "tune": ("console.tune", "search lambda and the learning rate"),
    "report": ("reports.report", "tables, figures and the page of a study"),
    "ui": ("sweeps.ui", "the MLflow UI on the runs"),
    "upload": ("tracking.upload", "send what the store did not take while a run lasted"),
    "check-grad": ("training.gradients", "the gradients next to TensorFlow's and torch's"),
}


def main() -> int:
    """Runs the command that sys.argv names; returns its exit status, 2 for a mistake."""
    name = sys.argv[1] if sys.argv[1:] else "--help"
    if name in ("--help", "-h"):
        print(_help())
        return 0
    if name == "--version":
        print(f"l2keras {metadata.version('l2keras')}")
        return 0
    if name in LIBRARY:
        runpy.run_module("l2keras", run_name="__main__")  # exits
    if name not in EXPERIMENTS:
        return _mistake(f"`l2keras` needs a command. Received: {name[:80]!a}. {_hint(name)}")
    missing = _missing()
    if missing:
        return _mistake(
            f"`l2keras {name}` needs the extra `{EXTRA}`. Received: {', '.join(missing)} not "
            f"installed. Install the extra with: {program.install(EXTRA)}"
        )
    return _experiment(EXPERIMENTS[name][0])


def _experiment(module: str) -> int:
    """Runs a command of the experiments and ends the process."""
    from l2keras_experiments.runtime import boundary

    program.enter_console()
    del sys.argv[1]
    boundary.run(importlib.import_module(f"l2keras_experiments.{module}").main)


def _missing() -> list[str]:
    """The packages of the extra that are not installed."""
    try:
        lines = metadata.requires("l2keras") or []
    except metadata.PackageNotFoundError:  # a checkout on the path
        return []
    found = []
    for item in lines:
        named = re.match(rf"([\w.-]+).*extra == ['\"]{EXTRA}['\"]", item)
        if named and not _is_installed(named[1]):
            found.append(named[1])
    return found


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _mistake(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return MISTAKE


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, [*LIBRARY, *EXPERIMENTS], n=1)
    return f"Did you mean {near[0]}?" if near else "`l2keras --help` lists the commands."


def _help() -> str:
    texts = {**LIBRARY, **{name: text for name, (_, text) in EXPERIMENTS.items()}}
    rows = [f"  {name:12} {text}" for name, text in texts.items()]
    head = "l2keras COMMAND [arguments]      l2keras COMMAND --help"
    split = len(LIBRARY)
    lines = [head, "", "Without a backend:", *rows[:split], ""]
    lines += [f"With the extra `{EXTRA}` ({program.install(EXTRA)}):", *rows[split:]]
    return "\n".join(lines)
