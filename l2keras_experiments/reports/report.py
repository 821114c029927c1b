"""From the runs of a study to tables, figures and a page."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2keras_experiments.config import credentials, paths, program
from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.reports import export, findings, records, study, study_page, views
from l2keras_experiments.reports.figures.curves import PANELS
from l2keras_experiments.reports.records import Record, StudyError
from l2keras_experiments.reports.study import Study
from l2keras_experiments.runtime import boundary, naming, progress
from l2keras_experiments.tracking.store import Store, store_uri

PAGE = "report.html"
NUMBERS = "report.json"  # the leaderboards, beside the page
FOLDER = "report"  # artifact folder of the parent
TERMINAL_ROWS = 12
SWEEPS_SHOWN = 10  # the newest
VERSIONS = "version."


@dataclass(frozen=True)
class Report:
    """What was written: the page, the files of the figures, and the study that they show."""

    page: Path
    figures: Sequence[Path]
    study: Study


def write(
    store: Store, parent: str | None, members: Collection[str] | None, folder: Path
) -> Report:
    """Writes the page and its figures, and logs them to the parent.

    Args:
        store: At the study to read.
        parent: The id of the sweep's run; None for the whole study, logged nowhere.
        members: The config hashes of the sweep, which are kept with the parent; None for its
            children and the members that were kept before.
        folder: Where the files go.

    Raises:
        StudyError: there is no training run.
    """
    everything = records.read(store)
    if parent is not None and members is not None:
        store.client.log_text(parent, json.dumps(sorted(members)), records.MEMBERS)
    chosen = everything if parent is None else records.members(store, everything, parent)
    searches = [record for record in everything if record.is_search and parent is None]
    trials, only_searches = _without(searches, [record for record in chosen if record.is_trial])
    if not trials:
        raise StudyError(
            "A report needs training runs. Received: none in the study or under the parent. "
            f"`{program.command('train', '-m', 'seed=0,1,2')}` makes some; the page of a "
            "comparison is its artifact comparison.html."
        )
    found = study.build(trials)
    folder.mkdir(parents=True, exist_ok=True)
    histories = records.histories(store, study_page.plotted(found), PANELS)
    shown = study_page.sections(found, histories, folder)
    commands = [*_commands(everything, trials, parent), _own_command(store, parent)]
    html = study_page.page(
        _name(store),
        found,
        shown,
        commands,
        _provenance(trials, store.uri),
        _subtitle(everything, parent),
        [_search(search, everything) for search in searches],
        only_searches,
    )
    page = folder / PAGE
    page.write_text(html, encoding="utf-8")
    (folder / NUMBERS).write_text(export.to_json(found), encoding="utf-8")
    names = [figure.name for section in shown for figure in section.figures]
    figures = [folder / f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    report = Report(page, figures, found)
    if parent is not None:
        _log(store, parent, report)
    return report


def _without(searches: Sequence[Record], trials: Sequence[Record]) -> tuple[list[Record], bool]:
    """The training runs that are no trials of a search; all of them if there are no others."""
    ids = {search.id for search in searches}
    others = [record for record in trials if record.parent not in ids]
    return others or list(trials), bool(ids) and bool(trials) and not others


def _search(search: Record, everything: Sequence[Record]) -> list[str]:
    """A row of the table of searches: name, trials, best lambda, its value, id."""
    children = sum(record.parent == search.id for record in everything)
    lam = search.tags.get(f"best.{study.LAM}", "-")
    asked = search.params.get("training.selection", "null")
    metric = study.DATA_LOSS if asked == "null" else asked
    value = search.number(f"best.{metric}")
    shown = "-" if math.isnan(value) else f"{metric} {value:.4g}"
    return [search.name, search.tags.get("num_trials", str(children)), lam, shown, search.id]


def _subtitle(everything: Sequence[Record], parent: str | None) -> str:
    """The name and the id of the sweep; "" for a whole study."""
    names = [record.name for record in everything if record.id == parent]
    return f"{names[0]} (run {parent})" if names else ""


def default_folder(store: Store, parent: str | None = None) -> Path:
    """Beside the store if that is a file, else in runs/; for a sweep inside its study's."""
    folder = store.folder.parent / "report" / naming.component(_name(store))
    return folder if parent is None else folder / naming.component(parent[:8])


def _name(store: Store) -> str:
    return str(store.client.get_experiment(store.experiment_id).name)


def _commands(
    everything: Sequence[Record], trials: Sequence[Record], parent: str | None
) -> list[str]:
    """The sweeps that the runs belong to, and what made the runs without one, each once."""
    sweeps = {record.id: record.command for record in everything if record.command}
    asked = [sweeps[parent]] if parent in sweeps else []
    made = [sweeps.get(record.parent or "") or record.command for record in trials]
    return [command for command in dict.fromkeys([*asked, *made]) if command]


def _own_command(store: Store, parent: str | None) -> str:
    """The command that makes this page again."""

    default = credentials.masked_address(store_uri(None))
    where = [] if store.uri == default else ["--uri", store.uri]
    which = [] if parent is None else ["--parent", parent]
    return program.command("report", _name(store), *which, *where)


def _provenance(trials: Sequence[Record], uri: str) -> dict[str, str]:
    """What the results depend on beside the configs: commits and versions, each value once."""
    keys = sorted({key for record in trials for key in record.params if key.startswith(VERSIONS)})
    found = {"store": uri}
    for key in ("git_commit", "git_dirty"):
        found[key] = ", ".join(sorted({r.tags[key] for r in trials if key in r.tags}))
    for key in (*keys, "running_backend", "device_name"):
        found[key] = ", ".join(sorted({r.params[key] for r in trials if key in r.params}))
    hours = sum(r.end - r.start for r in trials if r.end is not None) / 3600
    return {**found, "time in all runs": f"{hours:.2f} h"}


def _log(store: Store, parent: str, report: Report) -> None:
    """Page, figures, table, metrics on the parent, views of its runs: what the UI shows first."""
    client, found = store.client, report.study
    for path in (report.page, *report.figures):
        client.log_artifact(parent, str(path), FOLDER)
    client.log_dict(parent, leaderboard(found), "leaderboard.json")
    shown_as_table = json.dumps([{"path": "leaderboard.json", "type": "table"}])
    client.set_tag(parent, "mlflow.loggedArtifacts", shown_as_table)
    for key, value in findings.summary_metrics(found).items():
        client.log_metric(parent, key, value)
    info = client.get_run(parent).info
    for key, step, value in findings.curves(found):
        # The same time again, so that a report written twice leaves each point once.
        client.log_metric(parent, key, value, timestamp=info.start_time, step=step)
    views.save(store, parent, views.of_sweep(parent, info.run_name, found))


def leaderboard(found: Study) -> dict[str, list[Any]]:
    """The rows of all settings under the columns of all, which a regression has fewer of."""
    by_name = [
        {"setting": s.label, **dict(zip(findings.columns(s), row, strict=True))}
        for s in found.settings
        for _, row in findings.leaderboard(s)
    ]
    columns = list(dict.fromkeys(name for row in by_name for name in row))
    return {"columns": columns, "data": [[row.get(c, "-") for c in columns] for row in by_name]}


def show(found: Study) -> None:
    """Prints the leaderboard, the findings and the missing runs."""
    single = len(found.settings) == 1
    for setting in found.settings:
        # With several settings only the best of each method.
        rows = [row for _, row in findings.leaderboard(setting, TERMINAL_ROWS if single else 0)]
        title, names = setting.label or "leaderboard", findings.columns(setting)
        progress.print_table(title, names, [rows], findings.important(setting))
    lines = findings.sentences(found.settings[0]) if single else findings.headlines(found)
    for line in lines:
        progress.print_point(line)
    for record in found.failed:
        name, status, why, _ = findings.failure(record)
        progress.print_point(f"missing: {name}: {status}, {why}")


def _parent(store: Store, asked: str | None) -> str | None:
    """The parent that was asked for, else the only sweep of the study."""
    sweeps = records.sweeps(store)
    if asked is None and len(sweeps) > 1:
        print(f"All training runs of the study. It has {len(sweeps)} sweeps; for one of them:")
        for run_id in sweeps[:SWEEPS_SHOWN]:
            print(f"  --parent {run_id}    {store.client.get_run(run_id).info.run_name}")
    return asked or (sweeps[0] if len(sweeps) == 1 else None)


def parser() -> argparse.ArgumentParser:
    found = boundary.Parser(
        prog=program.command("report"),
        description="Writes the page, the figures (SVG, PNG) and the tables of a study: the metric "
        "over lambda with 95 % intervals over seeds, learning rate x lambda, losses, norms, "
        "paired differences between methods, what failed, the commands.",
    )
    found.add_argument(
        "study", nargs="?", help="tracking.study; default: that of the newest sweep, else l2keras"
    )
    found.add_argument(
        "--uri", help="MLflow store; default: $MLFLOW_TRACKING_URI, else sqlite in runs/"
    )
    found.add_argument(
        "--parent", metavar="RUN_ID", help="one sweep; default: the only one, else all runs"
    )
    found.add_argument(
        "--output", metavar="FOLDER", type=Path, help="default: report/<study>/ beside the store"
    )
    for kind in export.FORMATS:
        found.add_argument(
            f"--{kind}",
            metavar="FILE",
            type=Path,
            nargs="?",
            const=True,
            help=f"also write the training runs as {kind}, one a row; default: beside the page",
        )
    return found


def _check_output(folder: Path) -> None:
    try:
        paths.check_writable(folder.absolute())
    except (OSError, ValueError) as error:
        raise ConfigError(
            "--output must be a folder that can be written. "
            f"Received: {folder} ({paths.reason(error)}). Choose another folder."
        ) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads, writes, prints.

    Raises:
        ConfigError: there is nothing to read, or no place to write to.
    """
    if arguments is None:
        credentials.hide()
    options = parser().parse_args(arguments)
    if options.output is not None:
        _check_output(options.output)
    for kind in export.FORMATS:
        if isinstance(getattr(options, kind), Path):
            export.check(f"--{kind}", getattr(options, kind))
    store = records.open_study(options.uri, options.study, options.parent)
    parent = _parent(store, options.parent)
    folder = options.output or default_folder(store, parent)
    report = write(store, parent, None, folder)
    show(report.study)
    print(f"page: {report.page}")
    for kind in export.FORMATS:
        path = getattr(options, kind)
        if path is not None:
            path = folder / f"runs.{kind}" if path is True else path
            export.write(report.study.runs, path, kind)
            print(f"{kind}: {path}")
    if parent is not None:
        print(f"logged to the MLflow run {parent} of study {_name(store)!r}")
    return 0
