"""Hostile inputs of every command, drawn from the schema, Hydra's grammar and a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from hydra.conf import HydraConf

from l2keras_experiments.config.schema import CompareConfig, Config, TuneConfig, keys

CONFIGS = {"train": Config, "compare": CompareConfig, "tune": TuneConfig}
SCALARS = [
    "0", "1", "-1", "3", "0.5", "1e-3", "1e999", "-inf", "nan", "9" * 30, "9" * 5000, "0x10", "1_0",
    "null", "true", "no", "abc", "", " ", "''", "'a b'", '"', "'", "\\", "a=b", "a:b", "a,b", "ä",
    "\ud800", "a\x01b", "a\nb", "a" * 300, "$a$", "%s", "{}", "{a:1}", "[]", "[a]", "[1,2]",
    "[[1]]", "[", "{", ")", "[" * 400,
    "${seed}", "${nope}", "${oc.env:NOPE}", "${oc.env:HOME}", "${", "$",
    "${oc.decode:'['}", "${nosuch:1}", "${runs:}", "${now:%Y}", "${.}", "${..}", "${a.${b}}", "???",
    "sqlite:////tmp", "sqlite:///", "sqlite:////proc/a.db", "http://", "http://h:p", "ftp://x", "/",
    "../../x", "~", "--help", "digits", "half_l2", "none", "float64", "tensorflow",
]  # fmt: skip
ARGUMENTS = [  # of the open groups
    "data._target_", "model._target_", "optimizer._target_", "model.width", "model.dropout",
    "model.activation", "model.mine._target_", "optimizer.momentum", "optimizer.clipnorm",
    "optimizer.schedule.name", "optimizer.schedule._target_",
]  # fmt: skip
FUNCTIONS = ["choice", "range", "interval", "glob", "sort", "shuffle", "tag", "int", "str", "bool",
             "float", "nope"]  # fmt: skip
HYDRA_GROUPS = ["launcher", "sweeper", "job_logging", "hydra_logging", "output", "help", "env",
                "nope"]  # fmt: skip
FLAGS = ["--cfg", "--cfg=job", "--cfg=nope", "--resolve", "--package", "-p", "-m", "--run", "-r",
         "--info", "--info=nope", "--config-name", "--config-name=nope", "--config-name=compare",
         "--config-path=/nope", "--config-path=pkg://nope", "--config-path=x.yaml", "--config-dir",
         "--config-dir=/proc/nope", "--experimental-rerun=/nope", "--nope", "-x", "--", "-mm",
         "--shell-completion", "--multi", "--version=3"]  # fmt: skip
YAML = [
    "{key}: {value}", "{key}: [{value}]", "{key}: {{a: {value}}}", "- {key}", "{value}",
    "{key}: {key}: 1",
    "{key}: &a [*a]", "defaults:\n- {value}", "defaults: {value}", "defaults:\n- mine",
    "\t{key}: 1",
    "# @package {value}\n{key}: 1", "# @package _global_\nhydra: {value}", "{key}: !!python/none",
    "# @package _global_\nhydra:\n  mode: {value}", "? {value}\n: {key}", "{key}: 1\n{key}: 2",
    "# @package _global_\nhydra:\n  sweeper:\n    params: {value}", "%YAML 9.9\n---\n{key}: 1",
    "# @package _global_\nhydra:\n  sweeper:\n    grids: {value}", "{key}: |\n {value}",
    "{key}: {value}\n---\n",
    "# @package _global_\ntracking:\n  {key}: {value}", "{key}: 2001-01-01", "\ufeff{key}: 1",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One call of a command.

    Attributes:
        environment: Variables of the shell.
        files: Texts by path in a folder that the arguments name {folder}.
    """

    command: str
    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def cases(seed: int, number: int) -> Iterator[Case]:
    """Draws so many cases; the same for the same seed."""
    draw = random.Random(seed)
    kinds: list[tuple[Callable[[random.Random], Case], int]] = [
        (_override, 9), (_sweep, 6), (_hydra, 5), (_file, 6), (_flags, 3), (_shell, 1), (_other, 6),
    ]  # fmt: skip
    for make in draw.choices([k for k, _ in kinds], [w for _, w in kinds], k=number):
        yield make(draw)


def _key(draw: random.Random, command: str) -> str:
    names = [key for key, _, _ in keys(CONFIGS[command])] + ARGUMENTS
    groups = ["data", "model", "optimizer", "regularization", "training", "tracking", "experiment"]
    key = draw.choice([draw.choice(names), draw.choice(names), draw.choice(groups)])
    if draw.random() < 0.15:  # mistyped
        place = draw.randrange(len(key))
        key = key[:place] + draw.choice(["", "x", ".", "@", "/", "ä"]) + key[place + 1 :]
    return draw.choice(["", "", "", "", "", "", "+", "++", "~"]) + key


def _override(draw: random.Random) -> Case:
    command = draw.choice(list(CONFIGS))
    words = [f"{_key(draw, command)}={draw.choice(SCALARS)}" for _ in range(draw.choice([1, 1, 2]))]
    return Case(command, ("--cfg", "job", *words))


def _call(draw: random.Random, depth: int = 0) -> str:
    """An expression of Hydra's grammar."""
    if depth > 2 or draw.random() < 0.3:
        return draw.choice(SCALARS)
    inside = [_call(draw, depth + 1) for _ in range(draw.choice([0, 1, 2, 3]))]
    if draw.random() < 0.3:
        return ",".join(inside)
    if draw.random() < 0.2:
        inside += [draw.choice(["step=0", "tags=a", "exclude=b", "reverse=true", "list=[1]"])]
    return f"{draw.choice(FUNCTIONS)}({','.join(inside)})"


def _sweep(draw: random.Random) -> Case:
    command = draw.choice(["train", "train", "train", "compare", "tune"])
    words = [f"{_key(draw, command)}={_call(draw)}" for _ in range(draw.choice([1, 2]))]
    return Case(command, ("-m", *words))


def _hydra_keys(node: Any, prefix: str) -> Iterator[str]:
    for item in fields(node):
        yield f"{prefix}.{item.name}"
        inner = item.default_factory() if callable(item.default_factory) else item.default
        if is_dataclass(inner) and not isinstance(inner, type):
            yield from _hydra_keys(inner, f"{prefix}.{item.name}")


def _hydra(draw: random.Random) -> Case:
    key = draw.choice(list(_hydra_keys(HydraConf(), "hydra")))
    if draw.random() < 0.25:
        key = f"hydra/{draw.choice(HYDRA_GROUPS)}"
    key = draw.choice(["", "", "", "+", "++", "~"]) + key
    how = draw.choice([("--cfg", "job"), ("--cfg", "hydra"), ("-m", "hydra/sweeper=study")])
    return Case("train", (*how, f"{key}={draw.choice(SCALARS)}"))


def _file(draw: random.Random) -> Case:
    command = draw.choice(list(CONFIGS))
    group = draw.choice(["data", "model", "optimizer", "regularization", "tracking", "experiment"])
    key = draw.choice([k for k, _, _ in keys(CONFIGS[command])]).rpartition(".")[2]
    text = draw.choice(YAML).format(key=key, value=draw.choice(SCALARS))
    how = [("--cfg", "job")] if command != "train" else [("--cfg", "job"), ("-m",)]
    arguments = ("--config-dir", "{folder}", f"{group}=mine", *draw.choice(how))
    return Case(command, arguments, files={f"{group}/mine.yaml": text})


def _flags(draw: random.Random) -> Case:
    words = draw.sample(FLAGS, draw.choice([1, 2, 3]))
    return Case(draw.choice(list(CONFIGS)), (*words, "seed=1", "--cfg=job"))


def _shell(draw: random.Random) -> Case:
    variable = draw.choice(["MLFLOW_TRACKING_URI", "KERAS_BACKEND"])
    texts = [text for text in SCALARS if "\0" not in text]
    command = draw.choice(list(CONFIGS))
    return Case(command, ("--cfg", "job"), environment={variable: draw.choice(texts)})


def _other(draw: random.Random) -> Case:
    """Flags and files of the commands without Hydra; none of these calls is a right one."""
    command = draw.choice(["report", "report", "upload", "upload", "upload", "check_grad", "ui"])
    junk = draw.choice(SCALARS)
    if command == "report":
        flags = ["--uri", "--parent", "--output", "--nope", "-x", ""]
        return Case(command, (draw.choice(flags), junk, *draw.choice([(), ("a", "b")])))
    if command == "check_grad":
        return Case(command, (draw.choice(["--nope", "x", "-"]), junk))
    if command == "ui":
        return Case(command, (draw.choice(["--port", "-p", "--nope", "--workers"]), f"x{junk}"))
    name = draw.choice(["0" * 32, "a'b", "a" * 200, "ä", "..", "0" * 32])
    return Case(command, (f"{{folder}}/{name}.jsonl",), files={f"{name}.jsonl": _lines(draw)})


def _lines(draw: random.Random) -> str:
    """JSON of another shape than what a run leaves."""
    content: Any = draw.choice([None, 5, "a", [], [1], [[1]], ["a"], ["a", 3], {"a": 1}, {"b": []}])
    kind: Any = draw.choice(["metrics", "params", "tags", "text", "file", "nope", 7, None, []])
    wrong = [json.dumps(content), json.dumps([kind]), json.dumps([kind, content, content]),
             json.dumps(["nope", content]), json.dumps(["status", 5]), "", "[", "\ufeff[]",
             json.dumps([[kind], content])]  # fmt: skip
    return draw.choice(wrong)
