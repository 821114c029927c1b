"""`python -m l2keras`: conversions and conventions in the terminal, without Keras."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence

from l2keras._convert.catalogue import conventions
from l2keras._convert.conversion import convert

_EXAMPLES = """\
examples:
  python -m l2keras convert 1e-4 --from torch.SGD --to keras.L2
  python -m l2keras convert 1e-5 --from tfa.AdamW --to keras.weight_decay --learning-rate 0.01
  python -m l2keras convert 1 --from sklearn.Ridge --to half_l2 --num-samples 60000
  python -m l2keras conventions
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, or 2 for what is wrong or undefined."""
    options = vars(_parser().parse_args(arguments))
    if options.pop("command") == "conventions":
        print(conventions())
        return 0
    try:
        result = convert(**options)
    except (TypeError, ValueError) as error:
        print(f"python -m l2keras convert: {error}", file=sys.stderr)
        return 2
    label = "exact: " if result.exact else "warning: not exact. "
    print(f"{result.value}\n{textwrap.fill(label + result.why, 100)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m l2keras",
        description="What a coefficient of weight decay is in another system.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    one = commands.add_parser("convert", help="convert a coefficient from one system to another")
    one.add_argument("value", type=float, help="the coefficient in the system --from")
    one.add_argument("--from", dest="source", required=True, metavar="SYSTEM")
    one.add_argument("--to", dest="target", required=True, metavar="SYSTEM")
    one.add_argument("--learning-rate", type=float, help="the constant one, or the initial one")
    one.add_argument("--optimizer", help="sgd (declares plain SGD), momentum, nesterov, adam, ...")
    one.add_argument("--num-samples", type=float, help="samples in the training set")
    one.add_argument("--batch-size", type=float, help="samples in a batch")
    one.add_argument("--num-steps", type=float, help="updates in the whole training")
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
