"""Peak memory of a variant: `python -m benchmarks.cases.memory VARIANT MODE` prints bytes.

One process for each variant builds the large model and takes ten steps. Its peak is Linux' VmHWM,
which is reset after the first steps, so that neither imports nor compilation count. `ru_maxrss`
cannot be reset, and a process inherits it. Pages of the libraries' files are counted separately,
because all processes share them: XLA's compiler alone has 40 MB. glibc returns every freed block
of a megabyte or more to the system, so that the peak is the memory in use at one time.
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

from benchmarks.cases import floor, models, steps
from benchmarks.cases.variants import NONE, VARIANTS
from benchmarks.kit.timing import again

WARM_UP, STEPS, RUNS = 2, 10, 3
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory(NamedTuple):
    """Bytes of a process.

    Attributes:
        peak: The most that ten steps use at one time, without `files`.
        files: Pages of files in memory: the code of the libraries.
    """

    peak: float
    files: float


def added(names: Sequence[str], mode: str) -> dict[str, Memory]:
    """Returns what each variant and the control add to `none`: medians of RUNS processes."""
    if not _STATUS.exists():
        return {}
    names = [NONE, again(NONE), *(name for name in names if name != NONE)]
    totals = {name: _median(name, mode) for name in names}
    none = totals.pop(NONE)
    return {n: Memory(m.peak - none.peak, m.files - none.files) for n, m in totals.items()}


def _median(name: str, mode: str) -> Memory:
    memories = [_memory_of(name, mode) for _ in range(RUNS)]
    return Memory(*map(statistics.median, zip(*memories, strict=True)))


def largest_kernel() -> int:
    """Returns the bytes of the largest variable of the large model."""
    variables = models.MODELS[models.LARGE].build(None).trainable_variables
    return max(floor.bytes_of([variable]) for variable in variables)


def _memory_of(name: str, mode: str) -> Memory:
    command = [sys.executable, "-m", "benchmarks.cases.memory", name, mode]
    settings = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**20)}
    run = subprocess.run(command, env={**os.environ, **settings}, check=True, capture_output=True)
    peak, files = run.stdout.split()[-2:]
    return Memory(int(peak) - int(files), int(files))


def _bytes(field: str) -> int:
    (kilobytes,) = re.findall(rf"^{field}:\s+(\d+) kB$", _STATUS.read_text(), flags=re.MULTILINE)
    return 1024 * int(kilobytes)


def main(name: str, mode: str) -> None:
    """Takes the steps; prints the peak of all pages, and the pages of files."""
    variant = name if name in VARIANTS else NONE  # the control
    take = steps.steps_of(models.MODELS[models.LARGE], variant, mode)
    take(WARM_UP)
    _RESET.write_text("5")  # proc(5): resets the peak to the current use
    take(STEPS)
    print(_bytes("VmHWM"), _bytes("RssFile"))


if __name__ == "__main__":
    main(*sys.argv[1:])
