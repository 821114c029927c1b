"""Peak memory of a variant: `python -m benchmarks.stepcost.memory VARIANT MODE`, in bytes.

One process for each variant builds the large model and takes ten steps. Its peak is Linux' VmHWM,
set back after the first steps, so that neither importing nor compiling counts; `ru_maxrss` cannot
be set back, and is inherited from the parent. glibc is told to return every freed block of a
megabyte or more to the system, so that the peak is what was in use at one time and not what had
been kept.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.stepcost import floor, models, steps
from benchmarks.stepcost.variants import NONE

WARM_UP, STEPS, RUNS = 2, 10, 3
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def added(names: Sequence[str], mode: str) -> dict[str, float]:
    """Bytes of peak that each variant has over `none`; medians of RUNS processes each."""
    if not _STATUS.exists():
        return {}
    peaks = {name: statistics.median(_peak_of(name, mode) for _ in range(RUNS)) for name in names}
    return {name: peak - peaks[NONE] for name, peak in peaks.items()}


def largest_kernel() -> int:
    """Bytes of the largest variable of the large model."""
    variables = models.MODELS[models.LARGE].build(None).trainable_variables
    return max(floor.bytes_of([variable]) for variable in variables)


def _peak_of(name: str, mode: str) -> int:
    command = [sys.executable, "-m", "benchmarks.stepcost.memory", name, mode]
    kept = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**20)}
    run = subprocess.run(command, env={**os.environ, **kept}, check=True, capture_output=True)
    return int(run.stdout.split()[-1])


def _peak() -> int:
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), flags=re.MULTILINE)
    return 1024 * int(kilobytes)


def main(name: str, mode: str) -> None:
    """Takes the steps and prints the peak."""
    take = steps.steps_of(models.MODELS[models.LARGE], name, mode)
    take(WARM_UP)
    _RESET.write_text("5")  # proc(5): the peak becomes what is in use now
    take(STEPS)
    print(_peak())


if __name__ == "__main__":
    main(*sys.argv[1:])
