"""Memory of a variant: `python -m benchmarks.stepcost.memory VARIANT MODE`, in bytes.

One process for each variant builds the large model and takes ten steps. Its peak is Linux' VmHWM,
set back after the first steps, so that neither importing nor compiling counts; `ru_maxrss` cannot
be set back, and is inherited from the parent. Pages of the libraries' files, which all processes
share and the system may drop, are told apart: XLA's compiler has 40 MB of them. glibc is told to
return every freed block of a megabyte or more to the system, so that the peak is what was in use at
one time and not what had been kept.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.stepcost import floor, models, steps
from benchmarks.stepcost.variants import NONE

WARM_UP, STEPS, RUNS = 2, 10, 3
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory(NamedTuple):
    """Bytes of a process.

    Attributes:
        peak: The most that was in use at one time in ten steps, without `files`.
        files: Pages of files in memory: the code of the libraries.
    """

    peak: float
    files: float


def added(names: Sequence[str], mode: str) -> dict[str, Memory]:
    """Bytes that each variant has over `none`; medians of RUNS processes each."""
    if not _STATUS.exists():
        return {}
    found = {name: _median([_memory_of(name, mode) for _ in range(RUNS)]) for name in names}
    none = found[NONE]
    return {n: Memory(m.peak - none.peak, m.files - none.files) for n, m in found.items()}


def _median(found: Sequence[Memory]) -> Memory:
    return Memory(*(statistics.median(column) for column in zip(*found, strict=True)))


def largest_kernel() -> int:
    """Bytes of the largest variable of the large model."""
    variables = models.MODELS[models.LARGE].build(None).trainable_variables
    return max(floor.bytes_of([variable]) for variable in variables)


def _memory_of(name: str, mode: str) -> Memory:
    command = [sys.executable, "-m", "benchmarks.stepcost.memory", name, mode]
    kept = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**20)}
    run = subprocess.run(command, env={**os.environ, **kept}, check=True, capture_output=True)
    peak, files = run.stdout.split()[-2:]
    return Memory(int(peak) - int(files), int(files))


def _bytes(field: str) -> int:
    (kilobytes,) = re.findall(rf"^{field}:\s+(\d+) kB$", _STATUS.read_text(), flags=re.MULTILINE)
    return 1024 * int(kilobytes)


def main(name: str, mode: str) -> None:
    """Takes the steps and prints the peak of all pages, and those of files."""
    take = steps.steps_of(models.MODELS[models.LARGE], name, mode)
    take(WARM_UP)
    _RESET.write_text("5")  # proc(5): the peak becomes what is in use now
    take(STEPS)
    print(_bytes("VmHWM"), _bytes("RssFile"))


if __name__ == "__main__":
    main(*sys.argv[1:])
