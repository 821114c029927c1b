"""One run among those that are trained at once: how far it has come, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import checkpoint
from experiments.regularization import Method
from experiments.schema import Config
from l2keras._sweep.members import State
from l2keras._sweep.training import Trained


@dataclass
class Runner:
    """One run among those that are trained at once.

    Attributes:
        history: For each metric its values, one an epoch.
        checkpoint_path: Where its state is kept now and then, or None.
        whole: Its state after the last epoch of `history`, once an epoch has been trained.
        earlier: Seconds of wall time that launches before this one have spent on it.
        seconds: All that was spent on it: of a chunk, the share of each run.
    """

    config: Config
    method: Method
    trained: Trained
    history: dict[str, list[float]]
    checkpoint_path: Path | None = None
    whole: State | None = None
    earlier: float = 0.0
    seconds: float = 0.0

    @property
    def epochs(self) -> int:
        return len(self.trained.history)

    def metrics(self, epoch: int) -> dict[str, float]:
        """Those of an epoch that is done."""
        return {key: values[epoch] for key, values in self.history.items()}

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

    def keep(self) -> None:
        """Writes the state after the last whole epoch; what has diverged is not gone on with."""
        state, diverged = self.whole, self.trained.status == "diverged"
        if self.checkpoint_path is not None and state is not None and not diverged:
            arrays = [*state.trainable, *state.other, *state.optimizer]
            progress = checkpoint.Progress(self.history, self.seconds)
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
