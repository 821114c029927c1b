"""Trains members group after group: epochs, early stopping, divergence, Ctrl-C."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from l2keras._sweep import interrupts, loops
from l2keras._sweep.feed import Feed
from l2keras._sweep.group import Group
from l2keras._sweep.members import Member, State
from l2keras._sweep.stopping import Logs, Stopper

COMPILE_SECONDS = 5.0  # about what another group size costs

OnEpoch = Callable[["Trained", Callable[[], State]], None]


@dataclass
class Trained:
    """A member, how far it has come, and what came of it.

    Attributes:
        number: Its place among the members.
        history: Metrics, one dict an epoch.
        status: "waiting", "running", "finished", "stopped" (early), "diverged" or "interrupted".
        state: Its weights, when its training began or ended.
    """

    number: int
    member: Member
    state: State
    history: list[Logs] = field(default_factory=list)
    status: str = "waiting"

    @property
    def is_done(self) -> bool:
        return self.status in ("finished", "stopped", "diverged")


@dataclass(frozen=True)
class Plan:
    """What a group is trained with.

    Attributes:
        make_group: size -> a `Group` of that size.
        size: Members in a group.
        epochs: Of every member.
        train, test: The batches; `test` may be None.
        early_stopping: A `keras.callbacks.EarlyStopping`, or None.
        metrics: Of the compiled model, which `early_stopping` asks.
        validates: epoch -> whether `test` is evaluated after it.
        on_epoch: Called after every epoch of a member with it and its state, a function.
        on_group_epoch: Called after each epoch of a group. A member whose status it sets to
            "stopped" trains no further.
    """

    make_group: Callable[[int], Group]
    size: int
    epochs: int
    train: Feed
    test: Feed | None
    early_stopping: Any = None
    metrics: Sequence[Any] = ()
    validates: Callable[[int], bool] = lambda epoch: True
    on_epoch: OnEpoch | None = None
    on_group_epoch: Callable[[], None] = lambda: None


def train(members: Sequence[Trained], plan: Plan) -> bool:
    """Trains all; True if Ctrl-C ended it before. Every member is left in a consistent state.

    What a handler of the user's raises for Ctrl-C goes on from here.
    """
    ordered = sorted(members, key=lambda one: str(plan.train.stream(one.member)))
    groups = [ordered[i : i + plan.size] for i in range(0, len(ordered), plan.size)]
    shared: dict[int, Group] = {}
    try:
        with interrupts.postponed(), loops.threads() as pool:
            for group in groups:
                interrupts.raise_if_heard()
                _GroupTraining(group, plan, shared, pool).run()
    except KeyboardInterrupt:
        return True
    return False


class _GroupTraining:
    """One group, from its first epoch to its last."""

    def __init__(
        self, members: Sequence[Trained], plan: Plan, groups: dict[int, Group], pool: Executor
    ) -> None:
        self._plan = plan
        self._groups = groups
        self._pool = pool
        stopping = plan.early_stopping
        self._stoppers = {} if stopping is None else {one.number: Stopper(stopping, plan.metrics)
                                                      for one in members}  # fmt: skip
        self._seat(members)

    def _seat(self, members: Sequence[Trained]) -> None:
        """Loads members into a group."""
        self._size = self._size_for(len(members))
        if self._size not in self._groups:
            self._groups[self._size] = self._plan.make_group(self._size)
        self._group = self._groups[self._size]
        self._members = list(members)
        self._seated = len(members[0].history)  # epochs; more than 0 where they go on
        self._seats = seated(members, self._group)
        self._group.load([one.member for one in self._seats], [one.state for one in self._seats])

    def _size_for(self, members: int) -> int:
        return self._plan.size if members > self._plan.size // 2 else members

    def run(self) -> None:
        """Trains them. Whatever ends it, their states are kept."""
        for one in self._members:
            one.status = "running"
        try:
            self._group.prepare(self._test_batches(self._seated))
            for epoch in range(self._seated, self._plan.epochs):
                interrupts.raise_if_heard()
                began, programs = time.perf_counter(), self._group.num_programs
                self._epoch(epoch)
                seconds = time.perf_counter() - began
                active = self._active()
                self._plan.on_group_epoch()
                self._keep([one for one in active if one.status == "stopped"], "stopped")
                if not self._active():
                    return
                if self._group.num_programs == programs:  # else compiling is in the seconds
                    self._make_room(epoch, seconds)
            self._keep(self._active(), "finished")
        finally:
            self._keep_interrupted()

    def _test_batches(self, epoch: int) -> list[np.ndarray]:
        test = self._plan.test
        return [] if test is None else test.batches([one.member for one in self._seats], epoch)

    def _active(self) -> list[Trained]:
        return [one for one in self._members if one.status == "running"]

    def _epoch(self, epoch: int) -> None:
        sitting = [one.member for one in self._seats]
        logs = self._group.fit(self._plan.train.batches(sitting, epoch), self._pool)
        if self._plan.test is not None and self._plan.validates(epoch):
            logs |= self._group.evaluate(self._test_batches(epoch), self._pool)
        snapshot = functools.cache(self._group.states)
        for one in self._active():
            seat = self._members.index(one)
            state = functools.partial(_nth, snapshot, seat)
            own = {name: float(values[seat]) for name, values in logs.items()}
            one.history.append(own)
            if not np.isfinite(own["loss"]):
                self._keep([one], "diverged")
            elif self._stops(one, epoch, state):
                self._keep([one], "stopped")
            if self._plan.on_epoch is not None:
                self._plan.on_epoch(one, state)

    def _stops(self, one: Trained, epoch: int, state: Callable[[], State]) -> bool:
        stopper = self._stoppers.get(one.number)
        return stopper is not None and stopper.stops(epoch, one.history[-1], state)

    def _keep(self, ended: Sequence[Trained], status: str) -> None:
        """Takes the states of members that train no further out of the group."""
        if not ended:
            return
        states = self._group.final_states()
        for one in ended:
            stopper = self._stoppers.get(one.number)
            best = stopper.best if stopper else None
            one.state = best or states[self._members.index(one)]
            one.status = status

    def _keep_interrupted(self) -> None:
        """Keeps where the active members are now; or, where that is lost, where they were seated.

        An exception in the middle of a call leaves JAX without the arrays that it was given.
        """
        active = self._active()
        try:
            states = self._group.states() if active else []
        except Exception:  # of whatever kind: the one that came first is what the user sees
            states = []
        for one in active:
            one.status = "interrupted"
            if states:
                one.state = states[self._members.index(one)]
            else:
                del one.history[self._seated :]

    def _make_room(self, epoch: int, seconds: float) -> None:
        """Goes on in a smaller group where that saves more than compiling it takes."""
        active = self._active()
        size = self._size_for(len(active))
        idle = 1 - self._group.stack_size(size) / self._group.stack_size(self._size)
        if idle < 0.5 or (self._plan.epochs - 1 - epoch) * seconds * idle < COMPILE_SECONDS:
            return
        states = self._group.states()
        for one in active:
            one.state = states[self._members.index(one)]
        self._seat(active)


def seated(members: Sequence[Trained], group: Group) -> list[Trained]:
    """As many as the group has room for: the last is repeated where they do not fill it."""
    return [*members, *[members[-1]] * (group.size - len(members))]


def _nth(states: Callable[[], Sequence[State]], seat: int) -> State:
    return states()[seat]
