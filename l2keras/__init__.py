"""L2 regularization and weight decay in Keras, with lambda as the textbooks mean it."""

import sys as _sys
import typing as _typing
from importlib import import_module as _import_module

if _typing.TYPE_CHECKING:
    from l2keras._attach.attach import attach as attach
    from l2keras._attach.attach import detach as detach
    from l2keras._audit.audit import audit as audit
    from l2keras._audit.report import AuditReport as AuditReport
    from l2keras._convert.catalogue import conventions as conventions
    from l2keras._convert.conversion import convert as convert
    from l2keras._convert.equivalence import UndefinedConversionError as UndefinedConversionError
    from l2keras._convert.timescales import half_life as half_life
    from l2keras._convert.timescales import lam_from_half_life as lam_from_half_life
    from l2keras._convert.timescales import lam_from_timescale as lam_from_timescale
    from l2keras._convert.timescales import timescale as timescale
    from l2keras._sweep.result import SweepResult as SweepResult
    from l2keras._sweep.sweep import sweep as sweep
    from l2keras.callbacks import WeightDecay as WeightDecay
    from l2keras.regularizers import HalfL2 as HalfL2
    from l2keras.splitting import PenaltySplit as PenaltySplit
    from l2keras.splitting import model_penalty as model_penalty

__version__ = "0.1.0"

__all__ = [
    "AuditReport",
    "HalfL2",
    "PenaltySplit",
    "SweepResult",
    "UndefinedConversionError",
    "WeightDecay",
    "attach",
    "audit",
    "conventions",
    "convert",
    "detach",
    "half_life",
    "lam_from_half_life",
    "lam_from_timescale",
    "model_penalty",
    "sweep",
    "timescale",
]

# Where each name is, as above, for Python: loaded when it is first asked for. A test compares.
_HOMES = {
    "AuditReport": "_audit.report",
    "HalfL2": "regularizers",
    "PenaltySplit": "splitting",
    "SweepResult": "_sweep.result",
    "UndefinedConversionError": "_convert.equivalence",
    "WeightDecay": "callbacks",
    "attach": "_attach.attach",
    "audit": "_audit.audit",
    "conventions": "_convert.catalogue",
    "convert": "_convert.conversion",
    "detach": "_attach.attach",
    "half_life": "_convert.timescales",
    "lam_from_half_life": "_convert.timescales",
    "lam_from_timescale": "_convert.timescales",
    "model_penalty": "splitting",
    "sweep": "_sweep.sweep",
    "timescale": "_convert.timescales",
}
_MODULES = ("callbacks", "masks", "penalties", "regularizers", "splitting")

if not _typing.TYPE_CHECKING:  # to a type checker a module that has it has every name

    def __getattr__(name: str) -> _typing.Any:
        """Names of `__all__`, and public modules, when they are first asked for (PEP 562)."""
        if name in _MODULES:
            return _import_module(f"l2keras.{name}")
        if name not in _HOMES:
            told = f"module 'l2keras' has no attribute {name!r}"
            raise AttributeError(told, name=name, obj=_sys.modules[__name__])
        found = globals()[name] = getattr(_import_module(f"l2keras.{_HOMES[name]}"), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})


def _started_as_command() -> bool:
    """True in `python -m l2keras`, which is to answer at once.

    While Python looks for the module of -m, sys.argv[0] is "-m", and the arguments after the
    module's name are all there: the name stands before them in sys.orig_argv.
    """
    return _sys.argv[:1] == ["-m"] and _sys.orig_argv[-len(_sys.argv)] == "l2keras"


# Not only when it is asked for: importing l2keras makes HalfL2 known to keras.saving.load_model.
if not _started_as_command():
    _import_module("l2keras.regularizers")
