"""Many lambdas at once against fits one by one: `KERAS_BACKEND=... python -m benchmarks.sweep`.

Three sides take turns in one process, each with its own tracing and compiling:

- a plain `model.fit(x, y)` on NumPy arrays, of one member;
- a fit from `tf.data` in memory, autotune off, batches cut beforehand; of these and the plain ones
  the faster counts as the best loop known, which takes as many times longer as there are members;
- `l2keras.sweep` of all members; beside it, for dense models, the matrix products of its steps
  alone (`benchmarks.sweepcost.products`): less time than that it cannot take.

The members that are fitted are then compared with those of the sweep after five epochs, in float32
and in float64: where float32 alone is far apart, rounding grows at kinks (ReLU, maxima), in `fit`
too. Writes benchmarks/results/sweep_<backend>.md.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from benchmarks.stepcost import machine
from benchmarks.sweepcost import page
from benchmarks.sweepcost.cases import CASES
from benchmarks.sweepcost.measure import measure

RESULTS = Path(__file__).parent / "results"
BACKEND = keras.backend.backend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    path = RESULTS / f"sweep_{BACKEND}.md"
    lines = [f"# Many lambdas at once, on {BACKEND}\n", f"{machine.described()}.\n"]
    for name in asked.case:
        case = CASES[name]
        for line in page.section(case, measure(case, asked.rounds), asked.rounds):
            print(line, flush=True)
            lines.append(line)
    if asked.case == list(CASES):
        RESULTS.mkdir(exist_ok=True)
        path.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
