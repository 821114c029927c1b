"""The goals, met or not, and the profiles: as a page and a figure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stepcost import machine
from benchmarks.wholeway import figure
from benchmarks.wholeway.clock import CREATING, INSIDE_FIT, REST, SAVING, TRACKING
from benchmarks.wholeway.measure import Profile


@dataclass(frozen=True)
class Found:
    """All that was measured, in seconds.

    Attributes:
        further: What a further job of a multirun takes beside `fit`.
        further_fit: Its `fit`.
        counts: How many imports, mistakes, first commands, further jobs and long runs there were.
    """

    added: float
    all_names: float
    mistake: float
    first: Profile
    further: float
    further_fit: float
    long: Profile
    counts: tuple[int, int, int, int, int]


def write(found: Found, folder: Path, name: str) -> None:
    """`name`.md and `name`.png."""
    lines = ["# The whole way", "", machine.described(), "", *goals(found)]
    lines += [f"![where the time goes]({name}.png)", "", *first(found), *long(found)]
    (folder / f"{name}.md").write_text("\n".join(lines).rstrip() + "\n")
    figure.draw(bars(found), folder, name)


def goals(found: Found) -> list[str]:
    """The table of goals."""
    share = found.long.tracking / found.long.seconds
    beside = outside(found.first)
    interpreters, mistakes, commands, jobs, runs = found.counts
    rows = [
        (f"`import l2keras` adds under 50 ms to `import keras` (median of {interpreters})",
         f"{1000 * found.added:.0f} ms", found.added < 0.05),
        (f"a mistake in the config is answered in under 2 s ({mistakes})",
         f"{found.mistake:.1f} s", found.mistake < 2),
        (f"the first one-epoch run, on an empty store, under 2 s outside imports, tracing and "
         f"training ({commands})", f"{beside:.2f} s", beside < 2),
        (f"a further job of a multirun under 0.5 s of that ({jobs})",
         f"{found.further:.2f} s", found.further < 0.5),
        (f"tracking under 5 % of a run of 30 epochs ({runs})", f"{share:.1%}", share < 0.05),
    ]  # fmt: skip
    lines = ["| goal | measured | |", "|---|---|---|"]
    lines += [f"| {goal} | {seen} | {'met' if met else 'not met'} |" for goal, seen, met in rows]
    names = f"`from l2keras import *`, every name, adds {1000 * found.all_names:.0f} ms."
    named = f"Names are loaded when they are first asked for: {names}"
    return [*lines, "", *left_out(found), "", named, ""]


def left_out(found: Found) -> list[str]:
    """What "outside imports, tracing and training" leaves out, with its seconds."""
    inside = {name: found.first.phases.get(name, 0.0) for name in INSIDE_FIT}
    parts = "; ".join(f"{name} {seconds:.3f} s" for name, seconds in inside.items())
    return [
        '"Outside imports, tracing and training" leaves out all that happens inside `fit`,',
        "validating and checkpoints included:",
        f"{sum(inside.values()):.2f} s in the first run ({parts}),",
        f"{found.further_fit:.2f} s in a further job, which lasts until the next run starts.",
    ]


def outside(profile: Profile) -> float:
    """Seconds of a whole command that are neither imports nor inside `fit`."""
    known = [s for name, s in profile.phases.items() if _is_import(name) or name in INSIDE_FIT]
    return profile.seconds - sum(known)


def first(found: Found) -> list[str]:
    """The profile of the first command."""
    created = found.first.phases.get(CREATING, 0.0)
    return [
        "## The first run: one epoch of digits, an empty store",
        "",
        "`python -m experiments.train training.epochs=1`, from the process's start to its end.",
        f"A store is made once: MLflow runs all its migrations on it, {created:.2f} s.",
        "",
        *table(found.first),
    ]


def long(found: Found) -> list[str]:
    """The profile of a run of 30 epochs, and its record."""
    run = found.long
    file = run.phases.get(SAVING, 0.0)
    share, without = run.tracking / run.seconds, (run.tracking - file) / run.seconds
    return [
        "## A run of 30 epochs: imports done, the store there",
        "",
        *table(run),
        f"Its record takes {1000 * run.tracking:.0f} ms, {share:.1%}; without",
        f"the model's file {without:.1%}. Counted are the main thread's",
        f"seconds in the phases marked *, and {1000 * run.beside:.0f} ms of CPU that the outbox's",
        "thread takes while the run trains. What that thread takes while the main thread waits for",
        f"it, {1000 * run.waited:.0f} ms of CPU, is in that waiting: MLflow's work on some 300",
        "metrics and 60 parameters.",
    ]


def table(profile: Profile) -> list[str]:
    """The phases of a profile; those of the record with a *."""
    rest = profile.seconds - sum(s for name, s in profile.phases.items() if name != REST)
    rows = {**{name: s for name, s in profile.phases.items() if name != REST}, REST: rest}
    lines = ["| phase | seconds | share |", "|---|---|---|"]
    for name, seconds in rows.items():
        mark = " *" if name in TRACKING else ""
        lines.append(f"| {name}{mark} | {seconds:.3f} | {seconds / profile.seconds:.1%} |")
    return [*lines, f"| all of it | {profile.seconds:.3f} | |", ""]


def bars(found: Found) -> dict[str, dict[str, float]]:
    """What the figure shows."""
    return {
        f"the first command, one epoch, an empty store: {found.first.seconds:.1f} s": groups(
            found.first
        ),
        f"30 epochs, imports done: {found.long.seconds:.2f} s": groups(found.long),
    }


def groups(profile: Profile) -> dict[str, float]:
    """Phases put together, for the figure."""
    found = profile.phases
    backend = {"import TensorFlow and Keras"}
    tracing = [name for name in INSIDE_FIT if name.startswith("tracing")]
    parts = {
        "importing TensorFlow and Keras": _sum(found, backend),
        "importing MLflow and the rest": _sum(found, filter(_is_import, found.keys() - backend)),
        "creating the database": found.get(CREATING, 0.0),
        "the record": profile.tracking - found.get(CREATING, 0.0),
        "tracing": _sum(found, tracing),
        "training and validating": _sum(found, set(INSIDE_FIT) - set(tracing)),
    }
    parts = {name: seconds for name, seconds in parts.items() if seconds > 0}
    return {**parts, REST: max(0.0, profile.seconds - sum(parts.values()))}


def _is_import(name: str) -> bool:
    return name.startswith("import ")


def _sum(seconds: dict[str, float], names: Iterable[str]) -> float:
    return sum(seconds.get(name, 0.0) for name in names)
