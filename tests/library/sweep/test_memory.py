"""How many members a group of `sweep` takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._sweep import evaluation, loops, memory, stacking


@pytest.mark.parametrize(
    ("members", "fit", "most", "expected"),
    [
        (32, 100, 32, 32),  # all at once
        (33, 100, 32, 17),  # 17 and 16, not 32 and 1
        (10, 4, 32, 4),  # 4, 4 and 2: three groups, and 4 is the least that makes three
        (9, 4, 32, 3),  # three groups of 3
        (5, 0, 32, 1),  # never less than one
        (5, 9, 1, 1),
    ],
)
def test_groups_fit_the_budget_and_are_of_nearly_one_size(
    members: int, fit: int, most: int, expected: int
) -> None:
    """As few groups as fit, and then as small as makes that many."""
    assert memory.group_size(members, 10, 10 * fit + 5, most) == expected


def test_the_estimate_is_the_sum_of_what_a_step_holds() -> None:
    """By hand: weights and slots four times, outputs three times."""
    layers = [keras.Input((3,)), keras.layers.Dense(4, use_bias=False), keras.layers.Dropout(0.5)]
    model = keras.Sequential(layers)
    # 12 weights, 2 numbers of dropout's seed; of SGD the momentum, the rate and the count;
    # the inputs, 3 numbers, and 2 layers of 4 outputs for each of 8 examples
    by_hand = 4 * (4 * (12 + 2) + 4 * (12 + 2) + 3 * (3 + 2 * 4) * 8)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
    estimate = memory.bytes_per_member(model, optimizer, batch_size=8)
    assert by_hand <= estimate <= by_hand + 100  # seeds and counts may have 8 bytes
    assert not optimizer.built


def test_the_note_tells_the_need_and_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """In MB, so that the user can tell what memory_budget= would change."""
    monkeypatch.setattr(memory, "bytes_per_member", lambda *arguments: 12 * 2**20)
    monkeypatch.setattr(memory, "default_budget", lambda: 2**33)
    model, sgd = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)]), "sgd"
    for budget, size, told in ((None, 32, "8192"), (100 * 2**20, 8, "100"), (2**19, 1, "0.5")):
        note = f"32 members, {size} at once, of 12 MB each in a budget of {told} MB"
        assert stacking.group_size(model, sgd, 32, 8, budget) == (size, note)


def test_what_is_free_is_a_number_of_bytes() -> None:
    """Half of the memory that is free: more than none, and less than a petabyte."""
    assert 2**20 < memory.default_budget() < 2**50


MEMORY = {
    # MemAvailable of 8 MiB; what the container may have and has, of which a cache; half of it
    "no container": (8 * 1024, None, 4 * 2**20),
    "no limit": (8 * 1024, ("max", 1, 0), 4 * 2**20),
    "a container": (8 * 1024, (7 * 2**20, 3 * 2**20, 2 * 2**20), 3 * 2**20),
    "a large container": (8 * 1024, (7 * 2**30, 0, 0), 4 * 2**20),
    "only a container": (None, (7 * 2**20, 3 * 2**20, 0), 2 * 2**20),
    "nobody tells": (None, None, memory.UNTOLD),
}


@pytest.mark.parametrize("case", MEMORY)
def test_what_is_free_is_what_programs_may_take(
    case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What Linux tells, no more than a container has left; 4 GB where there is neither."""
    available, container, expected = MEMORY[case]
    if available is not None:
        lines = "MemTotal: 9999 kB\nMemFree: 1 kB\nMemAvailable: {} kB\nHugePages_Total: 0\n"
        (tmp_path / "meminfo").write_text(lines.format(available))
    for name, value in zip(("max", "current", "stat"), container or (), strict=False):
        text = f"anon 5\ninactive_file {value}\n" if name == "stat" else f"{value}\n"
        (tmp_path / f"memory.{name}").write_text(text)

    def unknown(name: str) -> int:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "on_gpu", lambda: False)
    monkeypatch.setattr(os, "sysconf", unknown)
    assert memory.default_budget() == expected


@pytest.mark.parametrize(("free", "expected"), [(None, memory.UNTOLD), (10**9, 10**9 // 2)])
def test_on_a_gpu_the_computers_memory_does_not_count(
    free: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of what the GPU has free; 4 GB where the backend does not tell, as TensorFlow."""
    monkeypatch.setattr(memory, "on_gpu", lambda: True)
    monkeypatch.setattr(memory, "_free_gpu_memory", lambda: free)
    assert memory.default_budget() == expected


def test_without_files_the_system_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Elsewhere than on Linux, free pages count; Windows has no such function."""
    pages = {"SC_AVPHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "on_gpu", lambda: False)
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert memory.default_budget() == 5 * 4096
    monkeypatch.delattr(os, "sysconf")
    assert memory.default_budget() == memory.UNTOLD


@pytest.mark.parametrize(
    ("examples", "batch"),
    [(600, 75), (10_000, 80), (96, 96), (50, 50), (1, 1), (101, 96), (4949, 96)],
)
def test_batches_of_an_evaluation_are_even_where_they_can(examples: int, batch: int) -> None:
    """Of 72 to 96 examples, for steps of 32: the largest that divides them; else 96, or all."""
    assert evaluation.widest(32, examples) == batch


def test_an_evaluation_holds_no_more_than_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many examples validation_data has, three training batches of them at once."""
    widths = []
    call = loops.Loop.__call__

    def noting(self: Any, indices: Any, pool: Any) -> None:
        widths.append(indices.shape[-1])
        call(self, indices, pool)

    monkeypatch.setattr(loops.Loop, "__call__", noting)
    x, y = np.zeros((101, 3), "float32"), np.zeros((101, 1), "float32")

    def build() -> Any:
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    l2keras.sweep(build, (0.0, 0.1), x[:10], y[:10], validation_data=(x, y), loss="mse",
                  batch_size=5, verbose=0)  # fmt: skip
    assert sorted(set(widths)) == [5, 11, 15]  # steps; the rest of the evaluation; evaluations
