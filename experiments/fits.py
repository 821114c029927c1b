"""Which model takes which data. Light, so that it can answer before a backend is imported."""

from __future__ import annotations

from experiments.schema import ConfigError

# By the kind of the inputs, as in Dataset.kind.
FITTING = {
    "image": ("linear", "mlp", "cnn", "resnet"),
    "features": ("linear", "mlp"),
    "tokens": ("transformer", "gru"),
}


def check_fits(model: str, kind: str, data: str) -> None:
    """Raises ConfigError unless the architecture `model` takes inputs of this `kind`."""
    if model in FITTING[kind]:
        return
    expected = f"`model.name` must be one that takes {kind}, as {data} has"
    fitting = ", ".join(FITTING[kind])
    raise ConfigError(f"{expected}. Received: model.name={model!r}. Choose among: {fitting}.")
