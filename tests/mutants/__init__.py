"""Mutants: small faults, as patches, that the fast tier has to catch.

Each patch begins with lines of its own, which `git apply` skips; the third is optional:

    Fault: <one sentence>
    Tests: <paths of the tests of that area, from the repository root>
    Backend: <jax or torch, if the fault is in code of that backend; else tensorflow>
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT

FOLDER = Path(__file__).parent
TABLE = FOLDER / "README.md"


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        name: That of the patch; the area comes before the first underscore.
        fault: What is wrong, in one sentence.
        tests: Paths of the fast tier, from the repository root.
        backend: The KERAS_BACKEND of the tests.
    """

    name: str
    fault: str
    tests: tuple[str, ...]
    backend: str = "tensorflow"

    @property
    def area(self) -> str:
        return self.name.partition("_")[0]

    @property
    def patch(self) -> Path:
        return FOLDER / f"{self.name}.patch"


def read(patch: Path) -> Mutant:
    """Returns the mutant of a patch.

    Raises:
        ValueError: The patch does not begin with its headers.
    """
    first, second, third, *_ = patch.read_text(encoding="utf-8").splitlines()
    if not (first.startswith("Fault: ") and second.startswith("Tests: ")):
        raise ValueError(
            f"A mutant must begin with `Fault: ` and `Tests: `. Received: {first!r}, {second!r} "
            f"in {patch.name}. Write the two lines before the diff."
        )
    backend = third.removeprefix("Backend: ") if third.startswith("Backend: ") else "tensorflow"
    return Mutant(patch.stem, first.removeprefix("Fault: "), tuple(second.split()[1:]), backend)


def mutants() -> list[Mutant]:
    """Returns all mutants, by name."""
    return [read(patch) for patch in sorted(FOLDER.glob("*.patch"))]


def apply(mutant: Mutant, folder: Path, *options: str) -> str:
    """Applies a patch to the files of a folder.

    Args:
        mutant: The mutant.
        folder: The root of a copy of the repository.
        options: Of `git apply`, such as `--check`.

    Returns:
        What git said against it; empty where the patch was applied.
    """
    command = ["git", "apply", *options, str(mutant.patch)]
    # A copy inside another work tree is no part of it.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return result.stderr.strip() if result.returncode else ""


def files() -> list[str]:
    """Returns the paths of the checkout that git tracks or does not ignore.

    Raises:
        OSError, subprocess.CalledProcessError: There is no git, or no work tree.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name]
