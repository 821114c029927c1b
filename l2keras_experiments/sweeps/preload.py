"""Imported once by the process that the isolated jobs are forked from: what all of them need."""

from l2keras_experiments.runtime import device
from l2keras_experiments.tracking.store import load_client

load_client()
# Importing JAX or torch starts threads, which a fork does not survive.
if device.choose_backend(None) == "tensorflow":
    with device.quiet_imports():
        import l2keras_experiments.training.trial  # noqa: F401  # TensorFlow: 12 s
