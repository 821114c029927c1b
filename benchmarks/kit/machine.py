"""The machine in words: processor, cores, versions; without the host's name and without paths."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import keras


def described() -> str:
    """Returns one line."""
    packages = ("keras", keras.backend.backend(), "numpy")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    cores = len(os.sched_getaffinity(0))
    return f"{_processor()}, {cores} cores, Python {platform.python_version()}, {versions}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
