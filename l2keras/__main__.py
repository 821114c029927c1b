"""`python -m l2keras` and `l2keras`: conversions and conventions in the terminal, without Keras."""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import PurePath
from typing import NoReturn

from l2keras._convert.catalogue import conventions
from l2keras._convert.conversion import convert
from l2keras._validation import error, nearest, shown

_EXAMPLES = """\
examples:
  {program} convert 1e-4 --from torch.SGD --to keras.L2
  {program} convert 1e-5 --from tfa.AdamW --to keras.weight_decay --learning-rate 0.01
  {program} convert 1 --from sklearn.Ridge --to half_l2 --num-samples 60000
  {program} conventions
"""
_SAID_HERE = {
    "source": "--from",
    "target": "--to",
    "learning_rate": "--learning-rate",
    "optimizer": "--optimizer",
    "num_samples": "--num-samples",
    "batch_size": "--batch-size",
    "num_steps": "--num-steps",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, or 2 for what is wrong or undefined.

    On stdout the number is the first line. That it is not exact is said on stderr.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        options = vars(_parser().parse_args([_shielded(word) for word in words]))
    except _WrongArgumentsError as wrong:
        received = shown(" ".join(words)) if words else "no arguments"
        print(error(str(wrong), received, _help(words)), file=sys.stderr)
        return 2
    if options.pop("command") == "conventions":
        print(conventions())
        return 0
    try:
        result = convert(**options)
    except (TypeError, ValueError) as problem:
        print(f"{_program()} convert: {_reworded(str(problem))}", file=sys.stderr)
        return 2
    print(result.value)
    label, stream = ("exact", sys.stdout) if result.exact else ("warning: not exact", sys.stderr)
    why = f"{label}: {_reworded(result.why)}"
    print(textwrap.fill(why, 100, break_on_hyphens=False), file=stream)
    return 0


def _program() -> str:
    """Returns how the user calls this: by the console command or as a module."""
    return "l2keras" if PurePath(sys.argv[0]).stem == "l2keras" else "python -m l2keras"


def _shielded(word: str) -> str:
    """A negative number behind a space: argparse takes -1e-4 for an option, " -1e-4" not."""
    try:
        return f" {word}" if float(word) < 0 else word
    except ValueError:
        return word


def _reworded(text: str) -> str:
    """The arguments of `convert`, `source` or source=, as the options that they are here."""
    text = text.replace("l2keras.conventions()", f"`{_program()} conventions`")
    names = "|".join(_SAID_HERE)
    return re.sub(rf"\b({names})(?=[`=])", lambda found: _SAID_HERE[found[0]], text)


class _WrongArgumentsError(Exception):
    """What argparse has to say about the words of the command line."""


class _Parser(argparse.ArgumentParser):
    """Raises, in the place of printing its usage and leaving."""

    def error(self, message: str) -> NoReturn:
        raise _WrongArgumentsError(f"{self.prog}: {message}.")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{shown(text)} is no number") from None


def _help(words: Sequence[str]) -> str:
    """Names the option that a slip, or a name of `convert`, stands for; and the list of all."""
    options = {f"--{name}": option for name, option in _SAID_HERE.items()}
    options |= {option: option for option in _SAID_HERE.values()} | {"--lr": "--learning-rate"}
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("--") and name not in _SAID_HERE.values():
            for meant in nearest(name, options, count=1, cutoff=0.6):
                return f"Did you mean {options[meant]}?"
    return f"`{_program()} convert --help` lists the arguments."


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=_program(),
        description="What a coefficient of weight decay is in another system.",
        epilog=_EXAMPLES.format(program=_program()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    one = commands.add_parser("convert", help="convert a coefficient from one system to another")
    one.add_argument("value", type=_number, help="the coefficient in the system --from")
    one.add_argument("--from", dest="source", required=True, metavar="SYSTEM")
    one.add_argument("--to", dest="target", required=True, metavar="SYSTEM")
    one.add_argument("--learning-rate", type=_number, help="the constant one, or the initial one")
    one.add_argument("--optimizer", help="sgd (declares plain SGD), momentum, nesterov, adam, ...")
    one.add_argument("--num-samples", type=_number, help="samples in the training set")
    one.add_argument("--batch-size", type=_number, help="samples in a batch")
    one.add_argument("--num-steps", type=_number, help="updates in the whole training")
    commands.add_parser("conventions", help="list the systems: update rule, lam, source")
    return parser


def _until_the_reader_has_enough() -> int:
    """`main`, for `| head -1`: a closed pipe is no error, also when Python flushes at its end."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


if __name__ == "__main__":
    sys.exit(_until_the_reader_has_enough())
