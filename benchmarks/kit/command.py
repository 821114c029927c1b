"""The command line of a benchmark: its options, where it runs, and where the result goes."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import keras

from benchmarks.kit import machine, render
from benchmarks.kit.result import RESULTS, Origin, Result, Section, to_json


def parser(description: str | None, rounds: int | None) -> argparse.ArgumentParser:
    """Returns a parser with the options that all benchmarks have."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--rounds", type=int, default=rounds, help="default: %(default)s")
    made.add_argument("--results", type=Path, metavar="FOLDER", help="default: benchmarks/results")
    return made


def origin(name: str, arguments: Sequence[str] | None) -> Origin:
    """Returns the origin of what is measured from now on."""
    words = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["python", "-m", f"benchmarks.{name}", *words])
    backend = keras.backend.backend()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None  # not on Windows
    return Origin(f"KERAS_BACKEND={backend} {command}", machine.described(), load)


def shown(section: Section) -> Section:
    """Prints a table as soon as it is measured."""
    print(render.table(section), end="\n\n", flush=True)
    return section


def publish(result: Result, folder: Path | None, *, complete: bool = True) -> None:
    """Prints the goals; writes JSON, page and figure.

    A run of only some of the cases writes nothing, unless a folder is given.
    """
    if result.goals:
        print(render.goals(result.goals))
    if complete or folder:
        folder = folder or RESULTS
        folder.mkdir(exist_ok=True)
        (folder / f"{result.name}.json").write_text(to_json(result), encoding="utf-8")
        render.write(result, folder)
