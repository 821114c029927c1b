"""L2 regularization and weight decay in Keras, with lambda as the textbooks mean it."""

import sys as _sys
import typing as _typing

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


def _started_as_command() -> bool:
    """True in `python -m l2keras` and `l2keras convert`, which answer at once, without Keras.

    While Python looks for the module of -m, sys.argv[0] is "-m", and the arguments after the
    module's name are all there: the name stands before them in sys.orig_argv. The console command
    has its own path there.
    """
    if _sys.argv[:1] == ["-m"]:
        return _sys.orig_argv[-len(_sys.argv)] == "l2keras"
    script = _sys.argv[0].replace("\\", "/").rpartition("/")[2] if _sys.argv else ""
    return script == "l2keras" and _sys.argv[1:2] in (["convert"], ["conventions"])


# All at once, not when a name is first asked for: that may be inside a function that TensorFlow
# traces. Importing l2keras makes HalfL2 known to keras.saving.load_model.
if _typing.TYPE_CHECKING or not _started_as_command():
    from l2keras._attach.attach import attach, detach
    from l2keras._audit.audit import audit
    from l2keras._audit.report import AuditReport
    from l2keras._convert.catalogue import conventions
    from l2keras._convert.conversion import convert
    from l2keras._convert.equivalence import UndefinedConversionError
    from l2keras._convert.timescales import (
        half_life,
        lam_from_half_life,
        lam_from_timescale,
        timescale,
    )
    from l2keras._sweep.result import SweepResult
    from l2keras._sweep.sweep import sweep
    from l2keras.callbacks import WeightDecay
    from l2keras.regularizers import HalfL2
    from l2keras.splitting import PenaltySplit, model_penalty
