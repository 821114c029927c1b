"""What `sweep` returns: models, a table, notes; and what there is after an error."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import l2keras
from l2keras._sweep import checks, memory
from l2keras._sweep.group import Group
from l2keras._sweep.result import SweepResult
from tests.support.models import BACKEND, mse, to_numpy
from tests.support.sweeps import BATCH, EPOCHS, LAMS, data, distance, expected, linear, swept


def fail_after(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs out of memory in the second epoch after so many groups."""
    fit, calls = Group.fit, []

    def failing(self: Any, batches: Any, pool: Any) -> Any:
        calls.append(self)
        if len(calls) == EPOCHS * groups + 2:
            raise RuntimeError("out of memory\nand much more about it")
        return fit(self, batches, pool)

    monkeypatch.setattr(Group, "fit", failing)


def test_an_error_loses_no_member_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the first group of two are returned, those of the second have one epoch."""
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5)
    budget = 2 * memory.bytes_per_member(linear(), optimizer, BATCH) + 1
    fail_after(1, monkeypatch)
    with pytest.warns(UserWarning, match="3 members .* RuntimeError: out of memory$"):
        result = swept(memory_budget=budget)
    assert result.status == ("finished", "finished", "interrupted", "interrupted", "waiting")
    assert result.epochs == (EPOCHS, EPOCHS, 1, 1, 0)
    assert "3 members were not trained to the end" in str(result)
    model, _ = expected(LAMS[1])
    assert distance(result.weights[1], model.get_weights()) < 1e-5


def test_an_error_before_any_is_done_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to return."""
    fail_after(0, monkeypatch)
    with pytest.raises(RuntimeError, match="out of memory"):
        swept()


def test_members_come_by_lam_then_learning_rate_then_seed() -> None:
    """The last changes fastest."""
    sgd = keras.optimizers.SGD()
    members = checks.check_members([0.1, 0.2], (7, 8), [0.5, 0.25], sgd, "penalty")
    assert [(one.lam, one.learning_rate, one.seed) for one in members] == [
        (0.1, 0.5, 7), (0.1, 0.5, 8), (0.1, 0.25, 7), (0.1, 0.25, 8),
        (0.2, 0.5, 7), (0.2, 0.5, 8), (0.2, 0.25, 7), (0.2, 0.25, 8),
    ]  # fmt: skip


def test_the_table_tells_schedules_apart() -> None:
    """By their number, where there are several of a kind."""
    decay = keras.optimizers.schedules.ExponentialDecay
    cosine = keras.optimizers.schedules.CosineDecay(0.1, 4)
    rates = [decay(0.1, 4, 0.5), cosine, decay(0.2, 4, 0.5), 0.1]
    result = swept(0.1, learning_rates=rates, epochs=1)
    names = ["ExponentialDecay 1", "CosineDecay", "ExponentialDecay 2"]
    assert [row["learning_rate"] for row in result.table()] == [*names, 0.1]
    assert all(f" {name} " in str(result) for name in names)


def test_the_table_has_the_optimizers_own_learning_rate() -> None:
    """As it was written, not as float32 has it."""
    result = swept(0.1, optimizer=keras.optimizers.SGD(0.01), epochs=1)
    assert result.table()[0]["learning_rate"] == 0.01


def test_a_member_is_an_ordinary_model() -> None:
    """It is built, has the member's weights, predicts, saves its own; another is not touched."""
    result = swept((0.0, 0.6))
    model, again = result.member(1), result.member(1)
    trained, _ = expected(0.6)
    x, _ = data()
    for own, weights in zip(model.get_weights(), result.weights[1], strict=True):
        np.testing.assert_array_equal(own, weights)
    np.testing.assert_allclose(
        model.predict(x, verbose=0), trained.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )
    model.layers[0].kernel.assign(np.zeros((3, 4)))
    assert np.any(to_numpy(again.layers[0].kernel))


def test_the_table_has_a_row_for_each_epoch_of_each_member() -> None:
    """With what parts the members, in the order lam, learning rate, seed."""
    result = swept((0.0, 0.6), learning_rates=[0.1, 0.2], seeds=(5, 6), epochs=2)
    rows = result.table()
    assert [row["member"] for row in rows] == [i for i in range(8) for _ in range(2)]
    last = rows[-1]
    assert [last[name] for name in ("lam", "learning_rate", "seed", "epoch")] == [0.6, 0.2, 6, 1]
    assert last["loss"] == result.history["loss"][7, 1]
    assert str(result).count("finished") == 8


def test_the_last_epoch_of_every_metric_is_printed() -> None:
    """Under its name, however long; the penalties are what the losses differ by."""
    name = "a_metric_with_a_long_name"
    metric = keras.metrics.MeanAbsoluteError(name=name)
    result = swept(0.6, metrics=[metric], validation_data=data(), epochs=2)
    head, row, *_ = str(result).splitlines()
    shown = ["loss", name, "data_loss", "val_loss", f"val_{name}", "val_data_loss"]
    assert head.split() == ["lam", "eta", "seed", "epochs", *shown, "status"]
    values = [f"{result.history[name][0, 1]:.5g}" for name in shown]
    assert row.split() == ["0.6", "0.1", "0", "2", *values, "finished"]
    ends = [head.index(f" {name}") + len(name) + 1 for name in shown]
    assert all(row[:end].endswith(value) for end, value in zip(ends, values, strict=True))


def convolution() -> Any:
    flat = [keras.layers.Flatten(), keras.layers.Dense(2)]
    return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3), *flat])


def test_the_result_says_where_stacking_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """On JAX, on a CPU, each convolution has a core to itself; elsewhere they are stacked."""
    monkeypatch.setattr(memory, "cores", lambda: 1)
    result = l2keras.sweep(convolution, (0.0, 0.1), *data((4, 4, 1)), loss=mse, verbose=0)
    slow = "each on a core, as JAX's stacked convolutions are slow on a CPU"
    if BACKEND == "jax":
        assert result.notes == (f"2 members, 1 at once, {slow}",)
    else:
        assert result.notes[0].startswith("2 members, 2 at once, of 0.0")
    assert result.notes[0] in str(result)


def result_of(history: dict[str, list[list[float]]], epochs: tuple[int, ...]) -> Any:
    """A result of members at lam 0, 0, 0.1 and 0.1 with seeds 0 and 1, with this history."""
    members = checks.check_members([0.0, 0.1], (0, 1), [0.5], keras.optimizers.SGD(), "penalty")
    arrays = {name: np.array(values) for name, values in history.items()}
    status = ("finished",) * 4
    weights: tuple[list[np.ndarray], ...] = ([], [], [], [])
    return SweepResult(tuple(members), arrays, epochs, status, weights, ("a <note>",), None, ())  # type: ignore[arg-type]  # no member is made


HISTORY = {
    "loss": [[4.0, 3.0], [4.0, np.nan], [4.0, 1.0], [4.0, 2.0]],
    "accuracy": [[0.1, 0.2], [0.9, 0.1], [0.5, 0.3], [0.5, 0.4]],
    "mine": [[1.0, 5.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]],
}


def test_the_best_member_has_the_best_last_value() -> None:
    """A member that ended after the first epoch counts with that one; nan never wins."""
    result = result_of(HISTORY, (2, 2, 2, 2))
    assert [result.best(), result.best("loss"), result.best("accuracy")] == [2, 2, 3]
    assert [result.best("mine", "max"), result.best("mine", mode="min")] == [0, 1]
    assert result_of(HISTORY, (2, 1, 2, 2)).best("accuracy") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mine",), "`mode` must be.*metric='mine'.*best.'mine', mode=\"max\""),
        (("loss", "lowest"), "`mode` must be.*mode='lowest'"),
        (("nope",), "must be one of loss, accuracy, mine. Received: metric='nope'"),
    ],
)
def test_a_best_that_cannot_be_known_is_an_error(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        result_of(HISTORY, (2, 2, 2, 2)).best(*arguments)
    with pytest.raises(ValueError, match=r"finite value. Received: none of 'loss'"):
        result_of({"loss": [[np.nan]] * 4}, (1, 1, 1, 1)).best()


def test_a_plot_has_the_last_values_over_lambda() -> None:
    """Means of the seeds: (3 + 5) / 2 at lam 0, (1 + 2) / 2 at 0.1; every member is a point."""
    from matplotlib.figure import Figure

    history = {"loss": [[3.0], [5.0], [1.0], [2.0]]}
    axes = result_of(history, (1, 1, 1, 1)).plot(ax=Figure().subplots())
    line, points = axes.get_lines()
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0.0, 0.1], [4.0, 1.5])
    drawn = list(zip(points.get_xdata(), points.get_ydata(), strict=True))
    assert drawn == [(0.0, 3.0), (0.0, 5.0), (0.1, 1.0), (0.1, 2.0)]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lambda", "loss")


def test_a_notebook_shows_a_table() -> None:
    """A row for each member, the note escaped."""
    text = result_of(HISTORY, (2, 2, 2, 2))._repr_html_()
    assert text.count("<tr>") == 5
    row = ("0.1", "0.5", "0", "2", "1", "0.3", "2", "finished")
    assert "".join(f"<td>{cell}</td>" for cell in row) in text
    assert "<p>a &lt;note&gt;</p>" in text
