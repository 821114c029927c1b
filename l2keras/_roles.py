"""What a variable is for, and whether decay applies to it by default: one rule.

Kernels and embeddings decay; biases, normalization parameters, gains and slopes do not, whatever
their rank. It is read from, in this order: a name that says kernel, the class of the layer, other
names, and the shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import keras

from l2keras._keras.variables import ModelVariable

# Names of learned positions and tokens; `position_wise`, `pos_tag_embedding` are none of them.
_POSITIONAL_NAME = re.compile(
    r"(?<!and_)(?<![a-z])(pos|position|positional)_?(emb|embs|embed|embedding|embeddings|encoding)"
    r"(_?\d+)?(_|$)"
    r"|(?<![a-z])rel(ative)?_pos(ition)?(_|$)"
    r"|(?<![a-z])(cls|class|dist|distillation|register|mask)_tokens?(_|$)"
)
_POSITIONAL_CLASS = re.compile(r"(?<!And)Position(al)?(Emb|Encod)")

# Words in the name of a variable; the last one known counts: `scale_kernel` is a kernel.
_WORDS = {
    "kernel": "kernel kernels filter filters matrix projection proj lora "
    "embedding embeddings embed emb table codebook",
    "bias": "bias biases offset offsets shift shifts intercept",
    "norm": "gamma gammas beta betas norm norms",
    "scale": "scale scales gain gains alpha alphas slope slopes temperature temperatures tau "
    "multiplier magnitude layerscale",
}
_KIND_OF_WORD = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_KIND_OF_LETTER = {"b": "bias", "g": "scale"}  # as the whole name only
_ANY_WEIGHT = {"w", "weight", "weights"}  # of kernels, and of PyTorch's norms

# Layers of Keras that hold what another library made.
_FOREIGN = ("JaxLayer", "FlaxLayer", "TorchModuleWrapper")

# The end of the name of a class.
_CLASSES = {
    kind: re.compile(rf"({ends})(\d?[dD])?(Layer)?$")
    for kind, ends in {
        "norm": "Norm|Normali[sz]ation|Normalizer|^(GRN|LN|BN|IN|GN)",
        "scale": "Scale|Gain|Affine|P[Rr]e[Ll][Uu]|Temperature",
        "bias": "Bias|Offset|Shift",
    }.items()
}


@dataclass(frozen=True)
class Role:
    """What a variable is for.

    Attributes:
        kind: `kernel` (embeddings too), `bias`, `norm`, `positional`, `scale` (gains, slopes),
            or `vector` for any other of rank < 2.
        decays: Whether decay applies by default.
        reason: What says so.
        is_guess: True where only the shape speaks.
    """

    kind: str
    decays: bool
    reason: str
    is_guess: bool = False

    def decision(self, selected: bool | None = None) -> str:
        """Whether decay applies, and why; `selected`: what the patterns of a WeightDecay say."""
        text = f"{'decays' if self.decays else 'left out'}: {self.reason}"
        text += " (a guess)" if self.is_guess else ""
        if selected is None or selected is self.decays:
            return text
        return text + ("; but selected by include=" if selected else "; but not selected")


def role_of(entry: ModelVariable) -> Role:
    """The role of a variable in its model."""
    found = _Entry(entry)
    kind, reason, is_guess = next(filter(None, (rule(found) for rule in _RULES)))
    decays = kind in ("kernel", "positional") and found.rank >= 2
    if kind == "positional" and _broadcasts(found.shape):  # one token, a vector in effect
        decays = False
    return Role(kind, decays, reason, is_guess)


class _Entry:
    """What the rules look at."""

    def __init__(self, entry: ModelVariable) -> None:
        self.shape = tuple(entry.variable.shape)
        self.rank = len(self.shape)
        self.layer = type(entry.owner)
        self.layer_name = self.layer.__name__
        self.in_normalization = entry.in_normalization
        self.inputs = entry.input_shapes
        self.names = entry.names
        self.says_bias = entry.role.endswith("bias")
        self.is_positional = _is_positional(entry)
        self.kind_by_name, self.name = _kind_by_name(self.names)


# kind, reason, is it a guess
_Found: TypeAlias = tuple[str, str, bool] | None


def _named_kernel(entry: _Entry) -> _Found:
    if entry.kind_by_name != "kernel" or entry.rank < 2 or entry.is_positional:
        return None
    return "kernel", f"named {entry.name}", False


def _normalization(entry: _Entry) -> _Found:
    if not (entry.in_normalization or _CLASSES["norm"].search(entry.layer_name)):
        return None
    is_clear = entry.in_normalization or entry.kind_by_name or _broadcasts(entry.shape)
    return "norm", f"of {entry.layer_name}", not is_clear


def _named_bias(entry: _Entry) -> _Found:
    if entry.kind_by_name != "bias" or (entry.is_positional and not entry.says_bias):
        return None
    return "bias", f"named {entry.name}", _multiplies(entry)


def _position(entry: _Entry) -> _Found:
    if not entry.is_positional:
        return None
    return "positional", "a position or token by the name of variable or layer", False


def _low_rank(entry: _Entry) -> _Found:
    return ("vector", f"of rank {entry.rank}", False) if entry.rank < 2 else None


def _named(entry: _Entry) -> _Found:
    if entry.kind_by_name is None:
        return None
    return entry.kind_by_name, f"named {entry.name}", _multiplies(entry)


def _layer_class(entry: _Entry) -> _Found:
    for kind in ("scale", "bias"):
        if _CLASSES[kind].search(entry.layer_name):
            return kind, f"of {entry.layer_name}", False
    return None


def _shape(entry: _Entry) -> _Found:
    """Of a variable of rank 2 or more of which neither name nor class says what it is."""
    shape = entry.shape
    text = "x".join(map(str, shape))
    weight = next((n for n in entry.names if _ANY_WEIGHT.intersection(_words(n))), None)
    meets_each = _meets_each_element(entry)
    if _multiplies(entry):
        return "kernel", f"shape {text} multiplies the input", weight is None or meets_each
    if _broadcasts(shape) and (weight is None or entry.rank > 2):
        return "scale", f"shape {text} broadcasts", True
    if meets_each:
        return "scale", f"shape {text} is that of the input", True
    if weight is not None:
        return "kernel", f"named {weight}", _broadcasts(shape)
    of_keras = entry.layer.__module__.split(".")[0] == keras.__name__
    is_guess = not of_keras or entry.layer_name in _FOREIGN
    return "kernel", f"of {entry.layer_name}, of rank {entry.rank}", is_guess


# The first that finds something counts.
_RULES: tuple[Callable[[_Entry], _Found], ...] = (
    _named_kernel,
    _normalization,
    _named_bias,
    _position,
    _low_rank,
    _named,
    _layer_class,
    _shape,
)


def _kind_by_name(names: list[str]) -> tuple[str | None, str]:
    for name in names:
        words = _words(name)
        if len(words) == 1 and words[0] in _KIND_OF_LETTER:
            return _KIND_OF_LETTER[words[0]], name
        for word in reversed(words):
            if word in _KIND_OF_WORD:
                return _KIND_OF_WORD[word], name
    return None, ""


def _words(name: str) -> list[str]:
    """`logitScale_2` to `["logit", "scale"]`."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]


def _is_positional(entry: ModelVariable) -> bool:
    """True for learned positions and class tokens, by the names of variable and layer."""
    if entry.role.endswith("kernel"):
        return False
    names = [part.lower() for part in [*entry.path.split("/")[-2:], *entry.names]]
    by_name = any(_POSITIONAL_NAME.search(name) for name in names)
    return by_name or bool(_POSITIONAL_CLASS.search(type(entry.owner).__name__))


def _broadcasts(shape: tuple[int, ...]) -> bool:
    """True for (1, 1, C), (C, 1) and the like."""
    return sum(size != 1 for size in shape) <= 1


def _multiplies(entry: _Entry) -> bool:
    """Whether it is a matrix whose product sums over the last dimension of an input."""
    first = entry.shape[:1]
    return entry.rank == 2 and first != (1,) and any(shape[-1:] == first for shape in entry.inputs)


def _meets_each_element(entry: _Entry) -> bool:
    """Whether its shape is that of an example, or 1 where it broadcasts."""
    tails = [shape[1:][-entry.rank :] for shape in entry.inputs]
    return any(
        len(tail) == entry.rank
        and all(size in (1, there) for size, there in zip(entry.shape, tail, strict=True))
        for tail in tails
    )
