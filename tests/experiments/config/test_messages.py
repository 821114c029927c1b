"""The one line that a user reads."""

from __future__ import annotations

from l2keras_experiments.config import messages


def test_a_line_has_no_colors_and_no_control_characters() -> None:
    """Keras colors its errors; anything else that a terminal obeys is written out."""
    text = "bad \x1b[1mshape\x1b[0m\n at \x1b]0;title\x07"
    assert messages.line(text) == r"bad shape at \x1b]0;title\x07"
