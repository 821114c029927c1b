"""Environment and fixtures of every test. The folder of a test is its tier: see CONTRIBUTING.

The backend is KERAS_BACKEND's. Importing this module loads no backend, so that the process that
only distributes tests to workers starts at once.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "JAX_ENABLE_X64": "1",  # "equal" is proved in float64
    # One thread in each process: the processes share the cores.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

pytest_plugins = [
    "tests.support.factorial",
    "tests.support.durations",
    "tests.support.stores",
    "tests.support.quick",
]


def pytest_configure(config: pytest.Config) -> None:
    """In the fast tier XLA does not optimize what runs for milliseconds: on JAX a quarter less."""
    if not config.getoption("full") and os.environ["KERAS_BACKEND"] != "torch":
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")


def pytest_xdist_auto_num_workers() -> int:
    """Returns the number of cores that this process may use, a container's quota included."""
    from joblib import cpu_count

    return min(int(cpu_count()), 8)  # a worker takes more than a gigabyte


_frozen_modules = 0


@pytest.fixture(autouse=True, scope="module")
def _freeze_imports(request: pytest.FixtureRequest) -> None:
    """In the fast tier the garbage collector and `attach` do not walk over what is imported.

    That is a third of the time of the tests of `attach`. What a file of tests has left is collected
    here; its own objects are few, so that this is quick where nothing else was imported since.
    """
    global _frozen_modules
    if request.config.getoption("full"):
        return
    gc.collect()
    if len(sys.modules) > _frozen_modules + 100:
        gc.freeze()
        _frozen_modules = len(sys.modules)


@pytest.fixture(autouse=True, scope="module")
def _trace_quickly(request: pytest.FixtureRequest) -> None:
    """In the fast tier TensorFlow optimizes no graph and does not note where operations come from.

    Its functions run a few times each: to optimize them is an eighth of the time. pytest's stack is
    deep: to note it is a tenth of the time of a trace. Every operation gets the first one's.
    """
    if "tensorflow" in sys.modules and not request.config.getoption("full"):
        import tensorflow as tf
        from tensorflow.python.util import tf_stack

        if not hasattr(tf_stack.extract_stack, "cache_info"):
            extract = tf_stack.extract_stack
            tf_stack.extract_stack = functools.cache(lambda stacklevel=1: extract(stacklevel))
            tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(autouse=True, scope="session")
def _hear_ctrl_c() -> None:
    """A process that a shell starts in the background ignores Ctrl-C, which some tests press."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _record_steps_early() -> None:
    """On torch the short trainings of tests take both kinds of `sweep`'s steps."""
    if os.environ["KERAS_BACKEND"] == "torch":
        from l2keras._sweep import programs

        programs.RECORDED_AFTER = 4


@pytest.fixture(autouse=True, scope="session")
def _compile_to_python(request: pytest.FixtureRequest) -> None:
    """In the fast tier torch.compile traces a step and runs it in Python: no C++ compiler."""
    if os.environ["KERAS_BACKEND"] == "torch" and not request.config.getoption("full"):
        import torch

        torch.compile = functools.partial(torch.compile, backend="eager")


@pytest.fixture(autouse=True)
def _fresh_keras_state() -> Iterator[None]:
    """Every test starts from the same seed, float32, and names counted from zero."""
    if keras := sys.modules.get("keras"):
        keras.utils.clear_session(free_memory=False)  # a full gc takes 0.3 s
        keras.utils.set_random_seed(0)
    yield
    if keras := sys.modules.get("keras"):
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


@pytest.fixture
def float64() -> None:
    """Layers, optimizers and losses in float64; `_fresh_keras_state` sets float32 again."""
    import keras

    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


@pytest.fixture
def quick(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Arguments of `compile` for tests that are not about the form of the step.

    TensorFlow takes longer to trace a step than to run a few of them. With `--full` it traces.
    """
    eager = os.environ["KERAS_BACKEND"] == "tensorflow" and not request.config.getoption("full")
    return {"run_eagerly": True} if eager else {}


@pytest.fixture
def clusters(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The form of every update that could be an XLA cluster: "compiled" or "plain"."""
    from l2keras._keras import cluster

    forms: list[str] = []
    find_obstacle = cluster.find_obstacle

    def watched(*args: Any, **options: Any) -> str | None:
        obstacle = find_obstacle(*args, **options)
        forms.append("plain" if obstacle else "compiled")
        return obstacle

    monkeypatch.setattr(cluster, "find_obstacle", watched)
    return forms


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Two cores, everything compiled; the numbers of the stacks that are trained in threads."""
    from l2keras._sweep import memory, stacking
    from tests.support.sweeps import watch

    monkeypatch.setattr(stacking, "BYTES_THAT_PAY", 0)
    monkeypatch.setattr(stacking, "LEAST", 2)
    monkeypatch.setattr(memory, "cores", lambda: 2)
    numbers: set[int] = set()

    def noting(self: Any, steps: Any, variables: Any, indices: Any) -> None:
        if threading.current_thread().name.startswith("l2keras-sweep"):
            numbers.update(i for i, own in enumerate(self._stacks) if own is variables)
        steps(variables, indices)

    watch(monkeypatch, noting)
    return numbers
