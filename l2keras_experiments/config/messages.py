"""Messages on stderr: one printable line without passwords. And the exit statuses."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from l2keras_experiments.config import credentials, schema

LONGEST_WORD, LONGEST_LINE = 160, 1500  # characters
MISTAKE, UNEXPECTED = 2, 1  # exit statuses
_COLOR = re.compile(r"\x1b\[[0-9;]*m")  # in messages of Keras
SHOW_TRACEBACKS = "HYDRA_FULL_ERROR"  # Hydra's variable, for every command


def line(text: str) -> str:
    """The text in one line of printable characters without passwords, its long words shortened."""
    words = (_short(word) for word in credentials.masked(_COLOR.sub("", text)).split())
    shown = " ".join(words)
    if len(shown) > LONGEST_LINE:
        shown = f"{shown[: LONGEST_LINE // 2]} ... {shown[-LONGEST_LINE // 2 :]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)


def _short(word: str) -> str:
    if len(word) <= LONGEST_WORD:
        return word
    return f"{word[:80]}...{word[-40:]}"


def named(error: BaseException, text: str) -> str:
    """A message behind the type of its error."""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def example(key: str, word: str) -> str:
    """What to write for a key that must be `word`, such as "a whole number or null"."""
    examples = {
        "true or false": f"{key}=true or {key}=false",
        "a whole number": f"digits only, such as {key}=10",
        "a number": f"digits with a decimal point, such as {key}=0.01",
        "a text": f"one word, or quote it: '{key}=\"a b\"'",
        "a list": f"{key}=[a,b]",
    }
    fitting = [text for start, text in examples.items() if word.startswith(start)]
    return f"Write {fitting[0]}." if fitting else "Choose one of them."


def unknown(kind: str, received: str | None, word: str, valid: Sequence[str]) -> str:
    """The answer to a key, a group or an option that does not exist, with the nearest."""
    last = word.lstrip("+").rpartition(".")[2]
    near = [schema.SYNONYMS[last]] if kind == "key" and last in schema.SYNONYMS else []
    near += difflib.get_close_matches(word[:100], valid, n=1, cutoff=0.5)
    near += [key for key in valid if key.rpartition(".")[2] == last]
    hint = f"Did you mean {near[0]}?" if near else f"Valid: {', '.join(valid)}."
    return f"There is no such {kind}. Received: {received}. {hint}"
