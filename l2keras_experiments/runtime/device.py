"""Chooses the backend, the device and the arithmetic. Call before Keras builds anything."""

from __future__ import annotations

import functools
import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

from l2keras_experiments.config.schema import (
    Backend,
    Config,
    ConfigError,
    Device,
    Distribute,
    MixedPrecision,
)

_is_spared = False  # whether `spare_collector` has been entered in this process


def set_up(config: Config) -> str:
    """Selects backend, device, dtype and seed for this process.

    Returns:
        The name of the device, for the record of the run.

    Raises:
        ConfigError: the backend is loaded with another name already, there is no GPU, or the
            batch cannot be shared as `distribute` says.
    """
    backend = choose_backend(config.backend)
    if config.distribute is Distribute.mirrored and backend != "tensorflow":
        raise ConfigError(
            f"distribute=mirrored is TensorFlow's. Received: backend={backend}. "
            "JAX shares a batch among its GPUs under distribute=auto; torch has no such choice."
        )
    if config.device is Device.cpu and backend == "jax":
        os.environ["JAX_PLATFORMS"] = "cpu"
    if config.device is Device.cpu and backend == "torch":
        os.environ["KERAS_TORCH_DEVICE"] = "cpu"
    with quiet_imports():
        import keras

    if keras.backend.backend() != backend:
        raise ConfigError(
            f"`backend` cannot change in a running process. Received: backend={backend}, "
            f"running {keras.backend.backend()}. Start one process for each backend."
        )
    find_gpus = {"tensorflow": _tensorflow_gpus, "jax": _jax_gpus, "torch": _torch_gpus}[backend]
    with quiet_imports():
        gpus = find_gpus(config.device)
    if config.device is Device.gpu and not gpus:
        raise ConfigError(
            f"device=gpu needs a GPU that {backend} can see. Received: none. "
            "Install the driver and the GPU build of the backend, or use device=auto."
        )
    _check_shares(config, config.training.batch_size)
    _set_precision(config)
    keras.utils.set_random_seed(config.seed)
    return ", ".join(gpus) if gpus and config.device is not Device.cpu else "cpu"


@contextmanager
def spare_collector() -> Iterator[None]:
    """What was loaded before the block and in it is not looked through by Python's collector.

    The libraries' million objects take it 0.5 s each time. Once in a process: in a later job it
    would never collect what the ones before have left.
    """
    global _is_spared
    first, _is_spared = not _is_spared, True
    if first:
        gc.freeze()
    yield
    if first:
        gc.freeze()


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Holds back what the libraries' C++ code writes to stderr; shows it if the block raises.

    TensorFlow greets with several lines before any log level of its own applies.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def choose_backend(configured: Backend | None) -> str:
    """Sets KERAS_BACKEND from the config, else keeps it; tensorflow if neither says anything."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = check_backend(configured)
    return os.environ["KERAS_BACKEND"]


def check_backend(configured: Backend | None) -> str:
    """The name of the backend; tensorflow if neither the config nor the shell says anything.

    Raises:
        ConfigError: KERAS_BACKEND is none of those that train, or its package is not installed.
    """
    asked = configured.value if configured else os.environ.get("KERAS_BACKEND") or "tensorflow"
    names = [backend.value for backend in Backend]
    if asked not in names:
        raise ConfigError(
            f"KERAS_BACKEND must be one of {', '.join(names)}. Received: {asked}. "
            "Unset it, or pass backend=tensorflow."
        )
    if find_spec(asked) is None:
        raise ConfigError(
            f"backend={asked} needs the package {asked}. Received: it is not installed. "
            f"Install it with: pip install {asked}"
        )
    return asked


def _is_no_retracing(record: logging.LogRecord) -> bool:
    """Each run has a model of its own: TensorFlow would warn that its functions are traced anew."""
    return "triggered tf.function retracing" not in record.getMessage()


def _tensorflow_gpus(device: Device) -> list[str]:
    import tensorflow as tf

    tf.get_logger().addFilter(_is_no_retracing)  # a second time it is the same
    gpus = tf.config.list_physical_devices("GPU")
    if device is Device.cpu:
        tf.config.set_visible_devices([], "GPU")
    else:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return [str(detail.get("device_name", "gpu")) for detail in details]


def _jax_gpus(device: Device) -> list[str]:
    # JAX takes most of a GPU's memory at once unless told otherwise.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax

    return [str(d.device_kind) for d in jax.devices() if d.platform != "cpu"]


def _torch_gpus(device: Device) -> list[str]:
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def begin_session(config: Config) -> None:
    """Clears Keras' session, which forgets the dtype policy, too, and sets that again."""
    import keras

    keras.utils.clear_session(free_memory=False)
    _set_precision(config)


def _set_precision(config: Config) -> None:
    import keras

    dtype = config.training.dtype.value
    if dtype == "float64" and keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx(dtype)
    mixed = config.training.mixed_precision
    policy = dtype if mixed is MixedPrecision.none else f"mixed_{mixed.value}"
    keras.config.set_dtype_policy(policy)


def replicas(config: Config) -> list[str]:
    """The devices that share each batch, as `distribute` says; empty if nothing is shared."""
    import keras

    backend = keras.backend.backend()
    if config.distribute is Distribute.none or backend == "torch":
        return []
    if backend == "jax":
        found = _jax_gpus(config.device)
    else:
        import tensorflow as tf

        found = [device.name for device in tf.config.list_logical_devices("GPU")]
        if config.distribute is Distribute.mirrored:
            return found or [device.name for device in tf.config.list_logical_devices("CPU")]
    return found if len(found) > 1 else []


def _check_shares(config: Config, batch_size: int) -> None:
    """Raises ConfigError for what the devices that share a batch cannot do."""
    import keras

    devices = replicas(config)
    if len(devices) < 2:
        return
    if batch_size % len(devices):
        raise ConfigError(
            "`training.batch_size` must be a multiple of the number of devices that share it. "
            f"Received: a batch of {batch_size} on {', '.join(devices)}. Choose a multiple of "
            f"{len(devices)} (and data.num_train not below it), or distribute=none."
        )
    if keras.backend.backend() != "tensorflow":
        return
    needed = {"gradient_accumulation_steps": 1}  # it merges the devices inside a condition
    if "CPU" in devices[0]:  # seen to fail there; not tried on GPUs
        needed |= {"jit": False, "steps_per_execution": 1}
    for key, value in needed.items():
        received = getattr(config.training, key)
        if received != value:
            raise ConfigError(
                f"`training.{key}` must be {value} where TensorFlow shares a batch. Received: "
                f"training.{key}={received} on {', '.join(devices)}. Leave it, or distribute=none."
            )


def distribution_scope(config: Config, batch_size: int) -> AbstractContextManager[Any]:
    """Build and compile in this scope: data-parallel over `replicas`, if there are any.

    Raises:
        ConfigError: they cannot share batches of `batch_size`, or not in this way.
    """
    import keras

    _check_shares(config, batch_size)
    devices = replicas(config)
    if devices and keras.backend.backend() == "jax":
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    elif devices:
        scope: AbstractContextManager[Any] = _mirrored(tuple(devices)).scope()
        return scope
    return nullcontext()


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> Any:
    """One strategy for all trainings of a process: the messages of two would get mixed up."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices)


def is_replicated() -> bool:
    """Whether the model built now gets a copy on each of several devices, as on TensorFlow.

    JAX has one model over all of them, whose statistics are those of the whole batch anyway.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return bool(tf.distribute.get_strategy().num_replicas_in_sync > 1)


def num_replicas(model: Any) -> int:
    """The copies of a model that share each batch: 1 but under TensorFlow's strategies."""
    strategy = getattr(model, "distribute_strategy", None)
    return int(strategy.num_replicas_in_sync) if strategy is not None else 1
