"""Small files in the formats of keras.datasets, read by Keras' own loaders."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2keras_experiments.config.targets import TargetError
from l2keras_experiments.data import sources
from l2keras_experiments.data.datasets import Dataset, load_data
from tests.support import configs

Cache = Path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """An empty Keras cache, and no network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    # Keras reads KERAS_HOME once, when it is imported.
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", _no_network)
    (tmp_path / "datasets" / "fashion-mnist").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def small_files(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the datasets, whose files need not have the checksums of the real ones."""
    monkeypatch.setattr("keras.src.utils.file_utils.validate_file", lambda *args, **kwargs: True)
    return cache / "datasets"


def _no_network(*args: Any, **kwargs: Any) -> Any:
    raise urllib.error.URLError("no network")


def _load(name: str, **options: Any) -> Dataset:
    return load_data(configs.data(name, **options), seed=0, dtype="float32")


def _grey(count: int, size: int = 28) -> np.ndarray:
    """`count` images; every pixel of image i is 51 * i, that is i / 5 of white."""
    return np.repeat(np.arange(count, dtype=np.uint8) * 51, size * size).reshape(-1, size, size)


def _levels(images: np.ndarray) -> list[float]:
    return [round(float(level), 6) for level in images.mean(axis=(1, 2, 3))]


def _write_mnist(folder: Path) -> None:
    labels = np.array([4, 7, 4], dtype=np.uint8)
    np.savez(
        folder / "mnist.npz", x_train=_grey(3), y_train=labels, x_test=_grey(2), y_test=labels[:2]
    )


def _write_fashion_mnist(folder: Path) -> None:
    for part, images in (("train", _grey(3)), ("t10k", _grey(2))):
        labels = np.full(len(images), 4, np.uint8)
        header = struct.pack(">IIII", 2051, len(images), 28, 28)
        name = folder / "fashion-mnist" / part
        Path(f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        header = struct.pack(">II", 2049, len(labels))
        Path(f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + labels.tobytes()))


def _write_tar(path: Path, members: dict[str, dict[bytes, Any]]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, batch in members.items():
            content = pickle.dumps(batch, protocol=4)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _colour(count: int) -> np.ndarray:
    """CIFAR rows: 1,024 red values, then green, then blue; image i is red 51 * i only."""
    rows = np.zeros((count, 3, 1024), np.uint8)
    rows[:, 0] = 51 * np.arange(count, dtype=np.uint8)[:, np.newaxis]
    return rows.reshape(count, 3072)


def _write_cifar100(folder: Path) -> None:
    members = {
        "cifar-100-python/train": {b"data": _colour(3), b"fine_labels": [99, 99, 99]},
        "cifar-100-python/test": {b"data": _colour(2), b"fine_labels": [99, 99]},
    }
    _write_tar(folder / "cifar-100-python-target_archive", members)


def _write_cifar10(folder: Path) -> None:
    """One image a batch: Keras copies it to all 10,000 places of the batch."""
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    members: dict[str, dict[bytes, Any]] = {
        f"cifar-10-batches-py/{name}": {b"data": _colour(2)[1:], b"labels": [4]} for name in names
    }
    _write_tar(folder / "cifar-10-batches-py-target_archive", members)


def test_mnist_file_is_read(small_files: Path) -> None:
    """Images of mnist.npz come with a channel axis, from 0 to 1; one of three validates."""
    _write_mnist(small_files)
    data = _load("mnist")
    assert data.input_shape == (28, 28, 1)
    assert (len(data.x_train), len(data.x_val)) == (2, 1)
    assert sorted(_levels(data.x_train) + _levels(data.x_val)) == [0.0, 0.2, 0.4]
    assert sorted(_levels(data.x_test)) == [0.0, 0.2]
    assert sources.mnist()["train"][1].tolist() == [4, 7, 4]


def test_fashion_mnist_files_are_read(small_files: Path) -> None:
    """The four gzipped files of Fashion-MNIST become images and classes."""
    _write_fashion_mnist(small_files)
    parts = sources.fashion_mnist()
    assert [x.shape for x, _ in parts.values()] == [(3, 28, 28, 1), (2, 28, 28, 1)]
    assert _levels(parts["test"][0]) == [0.0, 0.2]
    assert parts["train"][1].tolist() == [4, 4, 4]


def test_cifar10_archive_is_read(small_files: Path) -> None:
    """The planes of a CIFAR-10 row become the channels of an image, and labels a vector."""
    _write_cifar10(small_files)
    (x, y), _ = sources._SOURCES["cifar10"].load()  # as floats they are 600 MB
    assert x.shape == (50_000, 32, 32, 3)
    assert x[7, 5, 5].tolist() == [51, 0, 0]
    assert y[:7].ravel().tolist() == [4] * 7


def test_cifar100_archive_is_read(small_files: Path) -> None:
    """CIFAR-100 comes with its fine classes."""
    _write_cifar100(small_files)
    x, y = sources.cifar100()["test"]
    assert x.shape == (2, 32, 32, 3)
    np.testing.assert_allclose(x[1, 5, 5], [0.2, 0.0, 0.0], rtol=1e-6)
    assert y.tolist() == [99, 99]


def test_imdb_reviews_are_padded_in_front(small_files: Path) -> None:
    """A review of two words ends in them: zeros, the start mark 1, then word + 3."""
    reviews = np.empty(2, object)
    reviews[:] = [[10, 20], [10, 20]]
    labels = np.array([0, 1])
    np.savez(
        small_files / "imdb.npz", x_train=reviews, y_train=labels, x_test=reviews, y_test=labels
    )
    data = _load("imdb", validation_fraction=0.5)
    assert (data.x_train.shape, data.x_val.shape) == ((1, 128), (1, 128))
    assert data.x_train[0, -4:].tolist() == [0, 1, 13, 23]
    assert (sources.kind_of_inputs("imdb"), data.x_train.dtype) == ("tokens", np.int32)
    assert (data.vocabulary_size, data.num_outputs) == (24, 2)


def test_num_train_above_what_the_file_holds_raises(small_files: Path) -> None:
    """A cached file that is smaller than the real one is measured before it is cut."""
    _write_mnist(small_files)
    with pytest.raises(ValueError, match=r"at most 2, .* Received: data.num_train=3"):
        _load("mnist", num_train=3)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "datasets/mnist.npz"),
        ("fashion_mnist", "datasets/fashion-mnist/t10k-images-idx3-ubyte.gz"),
        ("cifar10", "datasets/cifar-10-batches-py-target_archive"),
        ("cifar100", "datasets/cifar-100-python-target_archive"),
        ("imdb", "datasets/imdb.npz"),
    ],
)
def test_no_cache_and_no_network_is_one_clear_line(cache: Cache, name: str, file: str) -> None:
    """The error names the missing file, where Keras looks for it and how to get it there."""
    with pytest.raises(TargetError, match="no network") as caught:
        _load(name)
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    message = str(caught.value)
    assert "\n" not in message
    assert f"as {cache / file}" in message
    assert "save https://" in message
    assert "KERAS_HOME" in message


def test_failure_with_the_file_in_place_is_not_renamed(small_files: Path) -> None:
    """A file that is there but broken is answered with what the loader raised."""
    (small_files / "mnist.npz").write_bytes(b"not an archive")
    with pytest.raises(TargetError, match=r"mnist raised ValueError: .*pickled"):
        _load("mnist")
