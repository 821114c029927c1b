"""L2 regularization and weight decay in Keras, with lambda as the textbooks mean it."""

from l2keras._report import AuditReport as AuditReport
from l2keras.auditing import audit as audit
from l2keras.callbacks import WeightDecay as WeightDecay
from l2keras.regularizers import HalfL2 as HalfL2

__version__ = "0.1.0"

__all__ = ["AuditReport", "HalfL2", "WeightDecay", "audit"]
