"""Imported once by the process that the isolated jobs are forked from: what all of them need."""

from experiments import device, tracking

tracking.load_client()
# Importing JAX or torch starts threads, which a fork does not survive.
if device.choose_backend(None) == "tensorflow":
    with device.quiet_imports():
        import experiments.trial  # noqa: F401  # TensorFlow: 12 s
