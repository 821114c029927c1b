"""L2 regularization and weight decay in Keras, with lambda as the textbooks mean it."""

import sys as _sys

from l2keras._convert.catalogue import conventions as conventions
from l2keras._convert.conversion import convert as convert
from l2keras._convert.equivalence import UndefinedConversionError as UndefinedConversionError
from l2keras._convert.timescales import half_life as half_life
from l2keras._convert.timescales import lam_from_half_life as lam_from_half_life
from l2keras._convert.timescales import lam_from_timescale as lam_from_timescale
from l2keras._convert.timescales import timescale as timescale


def _started_as_command() -> bool:
    """True in `python -m l2keras`, which is to answer at once.

    While Python looks for the module of -m, sys.argv[0] is "-m", and the arguments after the
    module's name are all there: the name stands before them in sys.orig_argv.
    """
    return _sys.argv[:1] == ["-m"] and _sys.orig_argv[-len(_sys.argv)] == "l2keras"


# Eagerly otherwise: importing l2keras makes HalfL2 known to keras.saving.load_model.
if not _started_as_command():
    from l2keras._attach.attach import attach as attach
    from l2keras._attach.attach import detach as detach
    from l2keras._audit.audit import audit as audit
    from l2keras._audit.report import AuditReport as AuditReport
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
