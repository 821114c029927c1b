"""Self-contained HTML pages from templates: no script, no link to anything outside itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

TEMPLATES = Path(__file__).parent / "templates"
THEME = {
    "#000000": "currentColor",
    "#ffffff": "var(--page)",
    "#555555": "var(--soft)",
    "#b0b0b0": "var(--group)",
}


@dataclass(frozen=True)
class FigureOnPage:
    """A figure with the words around it.

    Attributes:
        name: Of its files.
        title: Its heading and its text alternative.
        caption: Below it.
        svg: As it is drawn for a wide window.
        narrow: The same for a phone.
    """

    name: str
    title: str
    caption: str
    svg: str
    narrow: str


def themed(svg: str) -> str:
    """A figure in the colours of the page: black follows the text, white the background."""
    for colour, on_page in THEME.items():
        svg = svg.replace(colour, on_page)
    return svg


def render(template: str, **values: Any) -> str:
    """The page that a template makes of the values; text is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["themed"] = themed
    return environment.get_template(template).render(**values)
