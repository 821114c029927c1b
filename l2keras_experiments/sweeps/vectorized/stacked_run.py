"""One run among those that are trained at once: how far it has come, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l2keras_experiments.config.schema import Config
from l2keras_experiments.library import State, Trained
from l2keras_experiments.training import checkpoint
from l2keras_experiments.training import history as histories
from l2keras_experiments.training.history import History
from l2keras_experiments.training.regularization import Method
from l2keras_experiments.training.stopping import EarlyStopping


@dataclass
class StackedRun:
    """One run among those that are trained at once.

    Attributes:
        history: For each metric its values, one an epoch.
        checkpoint_path: Where its state is kept now and then, or None.
        whole: Its state after the last epoch of `history`, once an epoch has been trained.
        earlier: Seconds of wall time that launches before this one have spent on it.
        seconds: All that was spent on it: of a chunk, the share of each run.
        test: Metrics on the test examples, once it has trained.
        is_pruned: Whether it was stopped from outside: its weights are not used.
    """

    config: Config
    method: Method
    trained: Trained
    history: History
    checkpoint_path: Path | None = None
    whole: State | None = None
    earlier: float = 0.0
    seconds: float = 0.0
    test: dict[str, float] = field(default_factory=dict)
    is_pruned: bool = False

    def __post_init__(self) -> None:
        self._stopping = EarlyStopping(self.config.training)

    @property
    def epochs(self) -> int:
        return len(self.trained.history)

    @property
    def is_over(self) -> bool:
        """Whether early stopping has ended it."""
        return self._stopping.is_over(self.history)

    @property
    def has_result(self) -> bool:
        """Whether it has trained to its end, that of early stopping included."""
        return self.trained.status in ("finished", "stopped") and not self.is_pruned

    @property
    def final(self) -> dict[str, float]:
        """The metrics of the epoch whose weights it ends with, if it ends now."""
        return histories.row(self.history, self._stopping.final_epoch(self.history))

    def metrics(self, epoch: int) -> dict[str, float]:
        """Those measured in an epoch that is done."""
        return histories.measured(self.history, epoch)

    def end_epoch(self, metrics: dict[str, float], state: State) -> None:
        """Takes up what an epoch has led to, and stops after it where that is due."""
        histories.append(self.history, metrics)
        self.whole = state
        self._stopping.observe(self.history, lambda: [*state.trainable, *state.other])
        if self.is_over and self.trained.status == "running":
            self.trained.status = "stopped"

    def prune(self) -> None:
        """Ends it after this epoch."""
        self.is_pruned = True
        if self.trained.status == "running":
            self.trained.status = "stopped"

    def restore_best(self) -> bool:
        """Gives a run that has trained the weights of its best epoch; False where it has them."""
        weights = self._stopping.best_weights(self.history)
        if weights is None:
            return False
        number = len(self.trained.state.trainable)
        self.trained.state = State(weights[:number], weights[number:], self.trained.state.optimizer)
        return True

    def resume(self) -> None:
        """Takes up the state that is kept, if there is one."""
        if self.checkpoint_path is None:
            return
        state = self.trained.state
        shapes = [array.shape for array in (*state.trainable, *state.other)]
        found = checkpoint.read(self.checkpoint_path, shapes)
        if found is None:
            return
        arrays, progress = found
        ends = len(state.trainable), len(state.trainable) + len(state.other)
        self.trained.state = State(arrays[: ends[0]], arrays[ends[0] : ends[1]], arrays[ends[1] :])
        self.history = progress.history
        self.earlier = self.seconds = progress.seconds
        self.trained.history = [{} for _ in range(progress.epochs)]
        self._stopping.load(checkpoint.best_path(self.checkpoint_path))

    def keep(self) -> None:
        """Writes the state after the last whole epoch; what has diverged is not gone on with."""
        state, diverged = self.whole, self.trained.status == "diverged"
        if self.checkpoint_path is not None and state is not None and not diverged:
            arrays = [*state.trainable, *state.other, *state.optimizer]
            progress = checkpoint.Progress(self.history, self.seconds)
            self._stopping.save(checkpoint.best_path(self.checkpoint_path))
            checkpoint.write(self.checkpoint_path, arrays, progress)

    def give(self, model: Any) -> None:
        """Gives a compiled model the weights, and its optimizer the slots, of the run."""
        state = self.trained.state
        for variable, value in zip(
            [*model.trainable_variables, *model.non_trainable_variables],
            [*state.trainable, *state.other],
            strict=True,
        ):
            variable.assign(value)
        model.optimizer.build(model.trainable_variables)
        own = [v for v in model.optimizer.variables if not v.path.endswith("learning_rate")]
        for variable, value in zip(own, state.optimizer, strict=True):
            variable.assign(value)
