"""From the runs of a study to tables, figures and a page: `python -m experiments.report`."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import (
    boundary,
    credentials,
    findings,
    naming,
    paths,
    progress,
    records,
    study,
    study_page,
    views,
)
from experiments.records import Record, StudyError
from experiments.schema import ConfigError
from experiments.study import Study
from experiments.study_curves import PANELS

if TYPE_CHECKING:
    from experiments.tracking import Store

PAGE = "report.html"
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
    trials = [record for record in chosen if record.is_trial]
    if not trials:
        raise StudyError(
            "A report needs training runs. Received: none in the study or under the parent. "
            "`python -m experiments.train -m seed=0,1,2` makes some."
        )
    found = study.build(trials)
    folder.mkdir(parents=True, exist_ok=True)
    histories = records.histories(store, study_page.plotted(found), PANELS)
    shown = study_page.sections(found, histories, folder)
    commands = [*_commands(everything, trials, parent), _own_command(store, parent)]
    html = study_page.page(_name(store), found, shown, commands, _provenance(trials, store.uri))
    page = folder / PAGE
    page.write_text(html, encoding="utf-8")
    names = [figure.name for section in shown for figure in section.figures]
    figures = [folder / f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    report = Report(page, figures, found)
    if parent is not None:
        _log(store, parent, report)
    return report


def default_folder(store: Store) -> Path:
    """Beside the store if that is a file, else in runs/."""
    return store.folder.parent / "report" / naming.component(_name(store))


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
    from experiments.tracking import store_uri

    default = credentials.masked_address(store_uri(None))
    where = [] if store.uri == default else ["--uri", store.uri]
    which = [] if parent is None else ["--parent", parent]
    words = ["python", "-m", "experiments.report", _name(store), *which, *where]
    return shlex.join(words)


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
    rows = [[s.label, *row] for s in found.settings for _, row in findings.leaderboard(s)]
    columns = ["setting", *findings.columns(found.settings[0])] if found.settings else []
    client.log_dict(parent, {"columns": columns, "data": rows}, "leaderboard.json")
    shown_as_table = json.dumps([{"path": "leaderboard.json", "type": "table"}])
    client.set_tag(parent, "mlflow.loggedArtifacts", shown_as_table)
    for key, value in findings.summary_metrics(found).items():
        client.log_metric(parent, key, value)
    info = client.get_run(parent).info
    for key, step, value in findings.curves(found):
        # The same time again, so that a report written twice leaves each point once.
        client.log_metric(parent, key, value, timestamp=info.start_time, step=step)
    for view in views.of_sweep(parent, info.run_name, found):
        client.set_experiment_tag(store.experiment_id, *view.tag(info.start_time))


def show(found: Study) -> None:
    """The leaderboard, the sentences and what is missing, in the terminal."""
    single = len(found.settings) == 1
    for setting in found.settings:
        # Of several settings the best of each method only.
        rows = [row for _, row in findings.leaderboard(setting, TERMINAL_ROWS if single else 0)]
        progress.print_table(setting.label or "leaderboard", findings.columns(setting), [rows])
    lines = findings.sentences(found.settings[0]) if single else findings.headlines(found)
    for line in lines:
        print(f"- {line}")
    for record in found.failed:
        name, status, why, _ = findings.failure(record)
        print(f"- missing: {name}: {status}, {why}")


def _parent(store: Store, asked: str | None) -> str | None:
    """The parent that was asked for, else the only sweep of the study."""
    sweeps = records.sweeps(store)
    if asked is None and len(sweeps) > 1:
        print(f"All runs of the study. It has {len(sweeps)} sweeps; for one of them:")
        for run_id in sweeps[:SWEEPS_SHOWN]:
            print(f"  --parent {run_id}    {store.client.get_run(run_id).info.run_name}")
    return asked or (sweeps[0] if len(sweeps) == 1 else None)


def parser() -> argparse.ArgumentParser:
    found = boundary.Parser(
        prog="python -m experiments.report",
        description="Writes the page, the figures (SVG, PNG) and the tables of a study: the metric "
        "over lambda with 95 %% intervals over seeds, learning rate x lambda, losses, norms, "
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
    store = records.open_study(options.uri, options.study, options.parent)
    folder = options.output or default_folder(store)
    parent = _parent(store, options.parent)
    report = write(store, parent, None, folder)
    show(report.study)
    print(f"page: {report.page}")
    if parent is not None:
        print(f"logged to the MLflow run {parent} of study {_name(store)!r}")
    return 0


if __name__ == "__main__":
    boundary.run(main)
