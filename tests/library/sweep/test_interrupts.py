"""What `sweep` leaves behind when something ends it: Ctrl-C, a handler of one's own, an error."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import keras
import pytest

import l2keras
from l2keras._sweep import interrupts, loops
from tests.support.models import BACKEND, mse
from tests.support.sweeps import BATCH, EPOCHS, data, distance, linear

Handler = Callable[[int, Any], None]


class Stop(BaseException):
    """What a handler of the user's raises."""


@pytest.fixture(autouse=True)
def _handler_of_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def run(**options: Any) -> Any:
    return l2keras.sweep(
        linear, (0.0, 0.6), *data(), optimizer=keras.optimizers.SGD(0.1), loss=mse,
        batch_size=BATCH, epochs=options.pop("epochs", EPOCHS), verbose=0, **options,
    )  # fmt: skip


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened; Ctrl-C is pressed when the third call of a loop begins."""
    found: list[str] = []
    call = loops.Loop.__call__

    def pressed(self: Any, indices: Any, pool: Any) -> None:
        if found.count("step") == 2:
            os.kill(os.getpid(), signal.SIGINT)
            found.append("Ctrl-C")
        call(self, indices, pool)
        found.append("step")

    monkeypatch.setattr(loops.Loop, "__call__", pressed)
    return found


def test_a_handler_of_the_users_is_called_when_the_step_is_whole(events: list[str]) -> None:
    """What it raises is what the user sees, and it is the handler again."""

    def handler(number: int, frame: Any) -> None:
        events.append("handled")
        raise Stop

    signal.signal(signal.SIGINT, handler)
    with pytest.raises(Stop):
        run()
    assert events == ["step", "step", "Ctrl-C", "step", "handled"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_handler_that_raises_nothing_lets_the_training_go_on(events: list[str]) -> None:
    """It is called once, and all members are trained to the end."""
    signal.signal(signal.SIGINT, lambda number, frame: events.append(f"handled {number}"))
    assert run().status == ("finished", "finished")
    assert events[2:5] == ["Ctrl-C", "step", f"handled {int(signal.SIGINT)}"]
    assert events.count("Ctrl-C") == 1


def test_what_is_heard_last_is_not_lost() -> None:
    """Ctrl-C after the last step is handled when the block ends; twice, at once."""
    passed = []

    def press(times: int) -> None:
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGINT)
            passed.append("on")

    with pytest.raises(KeyboardInterrupt), interrupts.postponed():
        press(1)
    assert passed == ["on"]
    with pytest.raises(KeyboardInterrupt), interrupts.postponed():
        press(3)
    assert passed == ["on", "on"]


def test_ctrl_c_after_the_last_epoch_of_a_group_ends_no_member_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That group has finished; the next one waits."""

    def press(self: Any, *args: Any, **kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(keras.utils.Progbar, "add", press)
    result = run(memory_budget=1, epochs=1)
    assert result.status == ("finished", "waiting")
    assert result.notes[-1] == "interrupted"


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """A handler that is not Python's to call is left in its place."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts.postponed():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.fixture
def lose(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Has what it is given raised in the second epoch, between JAX's call and what it returns."""
    calls = []

    def prepare(error: BaseException) -> None:
        import jax

        wait = jax.block_until_ready

        def losing(state: Any) -> Any:
            calls.append(wait(state))
            if len(calls) == 3:  # full batches and a rest in the first epoch
                raise error
            return state

        monkeypatch.setattr(jax, "block_until_ready", losing)

    return prepare


ON_JAX = pytest.mark.skipif(BACKEND != "jax", reason="JAX takes the arrays that it is given")


@ON_JAX
def test_an_error_that_loses_the_arrays_is_the_one_that_is_seen(
    lose: Callable[[BaseException], None],
) -> None:
    """And not that the arrays have been deleted."""
    lose(RuntimeError("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        run()


@ON_JAX
def test_ctrl_c_that_loses_the_arrays_leaves_the_members_where_they_began(
    lose: Callable[[BaseException], None],
) -> None:
    """Their weights are the initial ones, and no epoch is told that does not belong to these."""
    lose(KeyboardInterrupt())
    result = run()
    assert result.status == ("interrupted", "interrupted")
    assert result.epochs == (0, 0)
    keras.utils.set_random_seed(0)
    assert distance(result.weights[1], linear().get_weights()) == 0
