"""L2 regularization and weight decay in Keras, with lambda as the textbooks mean it."""

from l2keras.attachment import attach as attach
from l2keras.attachment import detach as detach
from l2keras.callbacks import WeightDecay as WeightDecay
from l2keras.regularizers import HalfL2 as HalfL2
from l2keras.splitting import PenaltySplit as PenaltySplit
from l2keras.splitting import model_penalty as model_penalty

__version__ = "0.1.0"

__all__ = ["HalfL2", "PenaltySplit", "WeightDecay", "attach", "detach", "model_penalty"]
