"""Where the experiments keep what they make, whatever the working directory."""

import os
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
CONFIGS = PROJECT / "configs"
RUNS = PROJECT / "runs"

LONGEST_NAME = 255  # bytes of the name of a file


def check_writable(folder: Path) -> None:
    """Raises OSError or ValueError where a folder could not be made or written; makes nothing."""
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in folder.parts):
        raise ValueError("a name is too long")
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    with tempfile.TemporaryFile(dir=there):
        pass


def reason(error: Exception) -> str:
    """Returns why, without the path."""
    return getattr(error, "strerror", None) or str(error)
