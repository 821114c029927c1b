"""HalfL2: the L2 penalty in the textbook convention, wherever Keras takes a regularizer."""

from __future__ import annotations

from typing import Any

import keras

from l2keras import _validation, penalties

_NOT_GIVEN: Any = object()


@keras.saving.register_keras_serializable(package="l2keras")
class HalfL2(keras.regularizers.Regularizer):
    """Penalizes the squared norm of a weight tensor, textbook convention.

    Convention: `lam` is the coefficient of `W` in the gradient,

        penalty(W) = (lam / 2) * sum(W ** 2)        grad penalty(W) = lam * W

    so `HalfL2(lam)` equals `keras.regularizers.L2(lam / 2)`, and
    `torch.optim.SGD(weight_decay=lam)`. Source: Goodfellow, Bengio and Courville,
    Deep Learning, section 7.1.1.

    float16 and bfloat16 weights are summed in float32; float64 stays float64.

    Args:
        lam: Finite, non-negative Python float, in units of loss per squared weight.

    Raises:
        TypeError: `lam` is missing or not a real scalar, or `l2=` was pasted.
        ValueError: `lam` is nan, infinite or negative.

    Example:

    >>> kernel = keras.ops.convert_to_tensor([[3.0], [4.0]])  # sum of squares: 25
    >>> round(float(HalfL2(lam=0.1)(kernel)), 6)
    1.25
    >>> layer = keras.layers.Dense(10, kernel_regularizer=HalfL2(1e-4))
    """

    def __init__(self, lam: float = _NOT_GIVEN, **pasted: Any) -> None:
        if pasted or lam is _NOT_GIVEN:
            raise TypeError(_wrong_arguments(pasted))
        self.lam = _validation.check_lam(lam, remedy="For no penalty pass kernel_regularizer=None.")

    def __call__(self, x: Any) -> Any:
        """Returns the penalty of `x` (any shape, float dtype) as a scalar tensor."""
        return penalties.penalty(x, self.lam)

    def get_config(self) -> dict[str, float]:
        """Returns `{"lam": lam}`, a plain Python float."""
        return {"lam": self.lam}

    def __repr__(self) -> str:
        return f"HalfL2(lam={self.lam!r})"


def _wrong_arguments(pasted: dict[str, Any]) -> str:
    if "l2" not in pasted:
        received = ", ".join(f"{key}={value!r}" for key, value in pasted.items()) or "no `lam`"
        return _validation.error(
            "`HalfL2` takes one argument, `lam`.",
            received,
            "Write HalfL2(lam=1e-4); from a config pass "
            '{"class_name": "l2keras>HalfL2", "config": {"lam": 1e-4}}.',
        )
    l2 = pasted["l2"]
    is_number = isinstance(l2, (int, float)) and not isinstance(l2, bool)
    doubled = repr(2 * l2) if is_number else "2 * l2"
    return _validation.error(
        "`HalfL2` takes `lam`, the coefficient of W in the gradient, not `l2`.",
        f"l2={l2!r}",
        f"keras.regularizers.L2(l2={l2!r}) has the gradient 2 * {l2!r} * W: "
        f"write HalfL2(lam={doubled}) for the same penalty.",
    )
