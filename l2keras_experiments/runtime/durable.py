"""Files that are whole or noticed: written with their length and checksum, read only if both hold.

A kill or a power cut leaves the file of before or the new one. A damaged file is renamed, never
deleted, so that whoever wants to can look into it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_FORMAT = "l2keras 1"  # another number for another format


class Damaged(ValueError):
    """A file that is not what was written."""


def write(path: Path, parts: Sequence[bytes | bytearray | memoryview]) -> None:
    """Writes a header and the parts; returns when the file and its name are on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.write(_header(parts))
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)
    sync(path.parent)


def read(path: Path) -> bytearray:
    """The parts that `write` has written, joined.

    Raises:
        Damaged: any bit differs from what was written, `write` did not write it, or the disk
            cannot read it.
    """
    try:
        content = bytearray(path.read_bytes())  # arrays over it can be written to
    except OSError as error:
        raise Damaged(f"it cannot be read ({error.strerror})") from error
    start = content.find(b"\n") + 1
    header = content[:start]
    del content[:start]
    if header != _header([content]):
        raise Damaged("its length or checksum is wrong")
    return content


def set_aside(path: Path) -> Path:
    """Renames a damaged file, to a name that no other file has; returns that name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged{number}")).exists():
        number += 1
    path.rename(aside)
    return aside


def warn(text: str) -> None:
    """One line for the user."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def sync(path: Path) -> None:
    """Returns when a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _header(parts: Sequence[bytes | bytearray | memoryview]) -> bytes:
    """Determined by the content, so that no bit of it can change unnoticed either."""
    digest, length = hashlib.sha256(), 0
    for part in parts:
        digest.update(part)
        length += len(part)
    return f"{_FORMAT} {length} {digest.hexdigest()}\n".encode()
