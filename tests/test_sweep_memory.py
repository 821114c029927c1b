"""How many members a group of `sweep` takes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._sweep import loops, memory


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


def test_what_is_free_is_a_number_of_bytes() -> None:
    """Half of the memory that is free: more than none, and less than a petabyte."""
    assert 2**20 < memory.default_budget() < 2**50


def test_an_evaluation_holds_no_more_than_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many examples validation_data has, three training batches of them at once."""
    widths = []
    call = loops.Loop.__call__

    def noting(self: Any, indices: Any) -> None:
        widths.append(indices.shape[-1])
        call(self, indices)

    monkeypatch.setattr(loops.Loop, "__call__", noting)
    x, y = np.zeros((100, 3), "float32"), np.zeros((100, 1), "float32")

    def build() -> Any:
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    l2keras.sweep(build, (0.0, 0.1), x[:10], y[:10], validation_data=(x, y), loss="mse",
                  batch_size=5, verbose=0)  # fmt: skip
    assert sorted(set(widths)) == [5, 10, 15]  # steps; the rest of the evaluation; evaluations
