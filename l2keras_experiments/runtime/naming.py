"""Names that other people chose, as names of files."""

from __future__ import annotations

import hashlib
import re

_SAFE = re.compile(r"[a-z0-9_][a-z0-9_-]{0,99}")
_DEVICES = re.compile(r"con|prn|aux|nul|com\d|lpt\d")  # of Windows, whatever ending follows


def component(name: str) -> str:
    """Returns a file name for `name`: one component of a path, another one for another name.

    A short name of lower-case letters, digits, dashes and underscores stays as it is. Any other
    becomes its harmless characters, "~" and a hash: different even where the file system ignores
    case or rewrites accents. There is no dot in it, and place for an ending of 100 bytes.
    """
    if _SAFE.fullmatch(name) and not _DEVICES.fullmatch(name):
        return name
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:60].strip("-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{slug or 'name'}~{digest[:20]}"
