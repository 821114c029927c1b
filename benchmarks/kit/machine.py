"""The machine in words: processor, cores, versions; without the host's name and without paths."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import keras
from joblib import cpu_count


def described() -> str:
    """Returns one line."""
    packages = ("keras", keras.backend.backend(), "numpy")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    cores = cpu_count()
    return f"{_processor()}, {cores} cores, Python {platform.python_version()}, {versions}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
