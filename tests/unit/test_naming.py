"""Names that other people chose, as names of files."""

from __future__ import annotations

import itertools
from pathlib import PurePosixPath, PureWindowsPath

from l2keras_experiments.runtime.naming import component

NAMES = [
    "", ".", "..", "../../x", "/", "/etc/passwd", "a/b", "a\\b", "C:\\x", "a\0b", "a\nb", "-rf",
    "~", "study", "Study", "STUDY", "study ", " study", "study.", "study.lock", "%2e%2e",
    "a" * 100, "a" * 101, "a" * 300, "A" * 300, "\u00e9" * 200, "\u00e9", "e\u0301", "\ud800",
    "con", "nul", "com1", "CON", "name", "x y", "x-y", "x_y", "$HOME", "*", "?", "\u202e",
]  # fmt: skip


def test_every_name_is_one_component() -> None:
    """No separator, no dot, nothing special on any system, and place for an ending."""
    for name in [*NAMES, *map(component, NAMES)]:
        found = component(name)
        assert found.isascii()
        assert not set(found) & set("/\\.:\0\n *?%$")
        assert found[0] not in "-~"
        assert 0 < len(found) <= 100
        for kind in (PurePosixPath, PureWindowsPath):
            assert kind("folder", found).parent == kind("folder")
        assert not PureWindowsPath(f"{found}.lock").is_reserved()


def test_two_names_are_two_components() -> None:
    """Also where the file system ignores case, and where one name is what became of another."""
    names = dict.fromkeys([*NAMES, *map(component, NAMES)])
    for one, other in itertools.combinations(names, 2):
        if component(one) != other and component(other) != one:
            assert component(one).lower() != component(other).lower(), (one, other)
    for name in NAMES:
        found = component(name)
        assert component(found) != found or found == name


def test_a_plain_name_stays_as_it_is() -> None:
    """Folders that exist already are found again."""
    for name in ("l2keras", "study_2", "0123456789abcdef" * 2, "a-b"):
        assert component(name) == name
