"""Self-contained HTML pages from templates: no script, no link to anything outside itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class FigureOnPage:
    """A figure with the words around it; `name` is its file's."""

    name: str
    title: str
    caption: str
    svg: str


def render(template: str, **values: Any) -> str:
    """The page that a template makes of the values; text is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
