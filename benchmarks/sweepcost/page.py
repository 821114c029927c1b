"""What was found, in lines of Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.sweepcost import products
from benchmarks.sweepcost.cases import Case
from benchmarks.sweepcost.measure import Found
from benchmarks.sweepcost.sides import distances


def section(case: Case, found: Found, rounds: int) -> Iterator[str]:
    """What was found for a case, in lines of Markdown."""
    yield f"## {case.title}\n"
    yield (
        f"{case.examples} examples, batches of {case.batch_size}, {case.epochs} epochs, SGD with "
        f"momentum; {rounds} rounds, medians. {found.notes}.\n"
    )
    loop = case.members * found.fit
    rows = {
        "one plain `fit(x, y)`": found.plain,
        "a fit of the best loop": found.fit,
        f"the best loop, {case.members} fits": loop,
        f"`sweep`, {case.members} members": found.swept,
    }
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
                f"- Its products alone take {found.products / found.plain:.2f} plain fits; beside "
                "them stand tracing, compiling, activations, the penalty and the update."
            )
    for dtype in ("float32", "float64"):
        apart = ", ".join(f"{one:.0e}" for one in distances(case, dtype))
        yield f"- Largest difference of a weight, sweep and loop, {dtype}, 5 epochs: {apart}."
    yield ""


def _told(met: bool) -> str:
    return "met" if met else "**not met**"
