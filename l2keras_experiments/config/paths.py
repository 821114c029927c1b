"""Where the config files are, and where the experiments write.

A checkout has configs/ beside the packages; its modules `experiments.*` write to its own runs/ from
any working directory. The wheel has configs/ inside of the package. The console command `l2keras`
writes to runs/ of the working directory, from a checkout too.
"""

import os
import tempfile
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
PROJECT = _PACKAGE.parent  # the checkout; installed, the folder of all packages
INSTALLED = (_PACKAGE / "configs").is_dir()
CONFIGS = (_PACKAGE if INSTALLED else PROJECT) / "configs"
WORK = Path.cwd() if INSTALLED else PROJECT  # its commit is recorded with each run
CONSOLE_VARIABLE = "L2KERAS_CONSOLE"  # the working directory of `l2keras`, for its children too
RUNS = Path(os.environ.get(CONSOLE_VARIABLE) or WORK, "runs")

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
