"""Renders every result of benchmarks/results again: `python -m benchmarks.render`.

It measures nothing: each JSON file becomes its page and its figure.
"""

from __future__ import annotations

from benchmarks.kit import render
from benchmarks.kit.result import RESULTS, from_json


def main() -> None:
    """Renders all pages and figures."""
    for path in sorted(RESULTS.glob("*.json")):
        render.write(from_json(path.read_text(encoding="utf-8")), RESULTS)


if __name__ == "__main__":
    main()
