"""What was found, in lines of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.sweepcost import products
from benchmarks.sweepcost.cases import Case
from benchmarks.sweepcost.measure import Found
from benchmarks.sweepcost.sides import NUDGE, distances, sensitivity

LIMITS = {"float32": 1e-5, "float64": 1e-10}


def section(case: Case, found: Found, rounds: int) -> Iterator[str]:
    """What was found for a case, in lines of Markdown."""
    evaluated = ", test examples evaluated after each" if case.validated else ""
    yield f"## {case.title}\n"
    yield (
        f"{case.examples} examples, batches of {case.batch_size}, {case.epochs} epochs, SGD with "
        f"momentum{evaluated}; {rounds} rounds, medians. {found.notes}.\n"
    )
    rows = {
        "one plain `fit(x, y)`": found.plain,
        "one fit from a `tf.data` pipeline": found.fit,
        f"the best loop, {case.members} fits as the faster of these": found.loop(case),
        f"`sweep`, {case.members} members": found.swept,
    }
    rows["of which tracing and compiling"] = found.compiling
    if found.products:
        rows["the matrix products of its steps alone"] = found.products
    yield "| | seconds | of one plain fit |\n|---|---|---|"
    for name, seconds in rows.items():
        yield f"| {name} | {seconds:.2f} | {seconds / found.plain:.2f} |"
    yield f"\n- Per member: {1000 * found.swept / case.members:.0f} ms."
    if found.products:
        kernels = products.kernels_of(case.build())
        operations = case.steps * products.operations(kernels, case.members, case.batch_size)
        speed = operations / found.products / 1e9
        yield f"- The products are {operations / 1e9:.0f} GFLOP, at {speed:.0f} GFLOP/s."
    ratio, goal = found.throughput(case), case.throughput
    yield f"- {ratio:.1f} times the throughput of the best loop, of {goal}: {_told(ratio >= goal)}."
    if case.one_fit:
        yield f"- All in the time of one plain fit: {_told(found.swept <= found.plain)}."
        if found.products and found.swept > found.plain:
            yield (
                f"- Its products alone take {found.products / found.plain:.2f} plain fits, tracing "
                f"and compiling {found.compiling / found.plain:.2f}. Beside these stand the "
                "activations, the update, which moves weights and momentum through memory, and "
                "what each epoch costs."
            )
    for dtype, limit in LIMITS.items():
        apart = distances(case, dtype)
        yield (
            f"- Largest difference of a weight, sweep and loop, {dtype}, after 5 epochs: "
            f"{_listed(apart)}; at most {limit:.0e}: {_told(max(apart) <= limit)}."
        )
        if dtype == "float32" and max(apart) > limit:
            yield (
                f"- By as much do these fits part from themselves ({_listed(sensitivity(case))}) "
                f"when their first weights are multiplied by 1 + {NUDGE:.0e}: rounding grows where "
                "ReLU and maxima have kinks. float64 leaves it no time to."
            )
    yield ""


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{one:.0e}" for one in values)


def _told(met: bool) -> str:
    return "met" if met else "**not met**"
