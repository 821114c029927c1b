"""On JAX, the values that a running epoch has taken out of the variables of a model."""

from __future__ import annotations

from typing import Any

import keras

_IS_JAX = keras.backend.backend() == "jax"


class State:
    """Knows which variables of the optimizer the state of the steps belongs to.

    Keras takes the values out at the first step, passes the state from step to step, and puts it
    back into the variables of the optimizer that the model has then: which may be another one,
    or have others.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._variables: list[Any] | None = None  # of the optimizer, in the last step
        self._values: Any = None  # theirs, after the last step

    @property
    def is_taken_out(self) -> bool:
        """Whether steps take the values as arguments."""
        return bool(_IS_JAX)

    def begin(self) -> None:
        """A step begins."""
        if _IS_JAX:
            self._variables = self._variables_now()

    def end(self, result: Any) -> None:
        """A step has returned (logs, state)."""
        if _IS_JAX:
            self._values = result[1][2]

    def sync_optimizer(self) -> None:
        """Puts the values of an optimizer back that is not, or not as it was, that of the model."""
        state, variables = getattr(self._model, "_jax_state", None), self._variables
        if not state or self._model._jax_state_synced or variables is None:
            return
        if not _are_those(variables, self._variables_now()):
            values = state.get("optimizer_variables") or ()
            for variable, value in zip(variables, values, strict=False):
                variable.assign(value)
            state["optimizer_variables"] = None

    def put_back(self, state: Any) -> None:
        """Puts the state with which a step was called into the variables."""
        trainable, other, optimizer, metrics = state
        model = self._model
        if optimizer is not self._values:  # Keras took it out just now
            self._variables = self._variables_now()
        model._jax_state = {
            "trainable_variables": trainable,
            "non_trainable_variables": other,
            "optimizer_variables": optimizer,
            "metrics_variables": metrics,
        }
        model._jax_state_synced = False
        self.sync_optimizer()
        model.jax_state_sync()

    def take_out(self) -> Any:
        """The state of now, for a step, which the variables no longer hold."""
        state = self._model._get_jax_state(
            trainable_variables=True,
            non_trainable_variables=True,
            optimizer_variables=True,
            metrics_variables=True,
            purge_model_variables=True,
        )
        self._model._jax_state_synced = False
        return state

    def _variables_now(self) -> list[Any]:
        optimizer = getattr(self._model, "optimizer", None)
        return [] if optimizer is None else list(optimizer.variables)


def _are_those(variables: list[Any], others: list[Any]) -> bool:
    return [id(one) for one in variables] == [id(one) for one in others]
