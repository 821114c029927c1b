"""What a target of one's own returns: split, typed, checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from l2keras_experiments.config.schema import ConfigError, DataConfig
from l2keras_experiments.data import datasets
from l2keras_experiments.data.datasets import load_data
from tests.support import configs

_returned: Any = None


def returned() -> Any:
    return _returned


def drawn(seed: int, dtype: str) -> Any:
    """A target that takes what is supplied."""
    x = np.full((10, 1), seed, dtype)
    return (x, np.arange(10) % 2), (x, np.arange(10) % 2)


def load(found: Any, *, seed: int = 0, dtype: str = "float64", **keys: Any) -> Any:
    """The dataset of a target that returns `found`."""
    global _returned
    _returned = found
    return load_data(configs.of_target(DataConfig, f"{__name__}.returned", **keys), seed, dtype)


def hundred() -> tuple[np.ndarray, np.ndarray]:
    """60 examples of class 0, 30 of class 1 and 10 of class 2, which hold their own index."""
    return np.arange(100.0).reshape(100, 1), np.repeat([0, 1, 2], [60, 30, 10])


def indices(*parts: Any) -> list[int]:
    return [int(index) for part in parts for index in np.ravel(part)]


def test_whole_data_are_split_without_loss_or_overlap() -> None:
    """20 of 100 are for testing, 16 of the other 80 validate, 64 train; y stays with its x."""
    data = load(hundred())
    assert [len(y) for y in (data.y_train, data.y_val, data.y_test)] == [64, 16, 20]
    assert sorted(indices(data.x_train, data.x_val, data.x_test)) == list(range(100))
    classes = hundred()[1]
    for x, y in (
        (data.x_train, data.y_train),
        (data.x_val, data.y_val),
        (data.x_test, data.y_test),
    ):
        assert y.tolist() == classes[indices(x)].tolist()


def test_the_split_is_stratified() -> None:
    """Of 60, 30 and 10 the test part has exactly a fifth, validation a fifth of what is left."""
    data = load(hundred())
    assert np.bincount(data.y_test).tolist() == [12, 6, 2]
    share = np.bincount(data.y_val) - np.array([9.6, 4.8, 1.6])
    assert np.abs(share).max() <= 1


def test_the_split_is_the_same_for_every_seed_and_num_train() -> None:
    whole = load(hundred())
    for keys in ({"seed": 5}, {"num_train": 7}, {"label_noise": 0.5}, {"dtype": "float32"}):
        other = load(hundred(), **keys)
        assert indices(other.x_val) == indices(whole.x_val)
        assert indices(other.x_test) == indices(whole.x_test)
        assert indices(other.x_train) == indices(whole.x_train)[: len(other.y_train)]


def test_the_fractions_are_followed() -> None:
    data = load(hundred(), validation_fraction=0.5, test_fraction=0.1)
    assert (len(data.y_train), len(data.y_val), len(data.y_test)) == (45, 45, 10)
    data = load(hundred(), test_fraction=0.0)
    assert (len(data.y_train), len(data.y_val), data.x_test, data.y_test) == (80, 20, None, None)
    with pytest.raises(ConfigError, match="There must be validation examples"):
        load(hundred(), validation_fraction=0.0)


def test_too_few_examples_name_a_fraction_that_is_enough() -> None:
    """A fifth of 2 rounds to 0; half of 2 is 1. One example cannot be in two parts."""
    x, y = np.zeros((2, 1)), np.array([0, 1])
    with pytest.raises(ConfigError, match=r"2 examples .*Set data\.validation_fraction=0\.5"):
        load((x, y))
    assert len(load((x, y), validation_fraction=0.5).y_val) == 1
    with pytest.raises(ConfigError, match=r"1 examples .*fraction=0\.9\. Return more examples"):
        load((x[:1], np.array([0.5])), validation_fraction=0.9)


def test_few_validation_examples_are_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """A fifth of 45 after the 11 for testing is 9 or fewer; of 100 it is 16."""
    x, y = hundred()
    load((x, y))
    assert capsys.readouterr().err == ""
    datasets._warn_of_few.cache_clear()
    for _ in range(2):
        load((x[:45], np.arange(45) % 2))
    assert capsys.readouterr().err.count("returned has 7 validation examples") == 1


def test_the_seed_of_the_split_draws_another() -> None:
    """As stratified and as whole as the first; the same number draws the same one."""
    first, second = load(hundred()), load(hundred(), split_seed=1)
    assert indices(second.x_val) == indices(load(hundred(), split_seed=1, seed=9).x_val)
    assert set(indices(second.x_val)) != set(indices(first.x_val))
    assert set(indices(second.x_test)) != set(indices(first.x_test))
    assert np.bincount(second.y_test).tolist() == [12, 6, 2]
    assert sorted(indices(second.x_train, second.x_val, second.x_test)) == list(range(100))
    assert indices(load(hundred(), split_seed=0).x_val) == indices(first.x_val)


@pytest.mark.parametrize(
    ("key", "value"), [("validation_fraction", 0.2), ("test_fraction", 0.2), ("split_seed", 1)]
)
def test_a_key_without_effect_is_a_mistake(key: str, value: Any) -> None:
    x, y = hundred()
    three = [(x[:70], y[:70]), (x[70:90], y[70:90]), (x[90:], y[90:])]
    message = f"`data.{key}` needs data that are split. Received: data.{key}={value}, and the parts"
    with pytest.raises(ConfigError, match=message):
        load(three, **{key: value})
    assert len(load((x, y), **{key: value}).y_val) == 16


def test_the_seed_of_the_split_draws_what_num_train_keeps() -> None:
    x, y = hundred()
    pairs = (x[:70], y[:70]), (x[70:], y[70:])
    first, second = (load(pairs, num_train=7, split_seed=seed) for seed in (0, 1))
    assert set(indices(first.x_train)) != set(indices(second.x_train))


def test_num_train_is_at_most_what_is_left() -> None:
    with pytest.raises(ConfigError, match=r"at most 64, all of .*Received: data\.num_train=65"):
        load(hundred(), num_train=65)


def test_two_pairs_are_training_and_validation() -> None:
    """Neither is split again, and there is no test part."""
    x, y = hundred()
    data = load(((x[:70], y[:70]), (x[70:], y[70:])))
    assert sorted(indices(data.x_train)) == list(range(70))
    assert indices(data.x_val) == list(range(70, 100))
    assert data.x_test is data.y_test is None


def test_three_pairs_have_a_test_part() -> None:
    x, y = hundred()
    data = load([(x[:70], y[:70]), (x[70:90], y[70:90]), (x[90:], y[90:])])
    assert indices(data.x_val) == list(range(70, 90))
    assert indices(data.x_test) == list(range(90, 100))


def test_a_dict_with_a_test_part_is_split_for_validation_only() -> None:
    """A fifth of the 70 to train on; the test part stays whole and in order."""
    x, y = hundred()
    data = load({"train": (x[:70], y[:70]), "test": (x[70:], y[70:])})
    assert (len(data.y_train), len(data.y_val)) == (56, 14)
    assert sorted(indices(data.x_train, data.x_val)) == list(range(70))
    assert indices(data.x_test) == list(range(70, 100))


def test_a_dict_with_a_validation_part_is_not_split() -> None:
    x, y = hundred()
    data = load({"validation": (x[:30], y[:30]), "train": (x[30:], y[30:])})
    assert (len(data.y_train), indices(data.x_val), data.y_test) == (70, list(range(30)), None)


def test_nested_inputs_are_split_together() -> None:
    x, y = hundred()
    data = load(({"a": x, "b": [x + 1, np.arange(100)]}, y))
    assert data.input_shape == {"a": (1,), "b": [(1,), ()]}
    for part, size in ((data.x_train, 64), (data.x_val, 16), (data.x_test, 20)):
        assert indices(part["a"]) == indices(part["b"][0] - 1) == indices(part["b"][1])
        assert len(part["a"]) == size
    assert data.x_train["b"][1].dtype == np.int32
    assert data.vocabulary_size == 0


def test_pandas_tables_lose_their_index() -> None:
    """Rows are matched by position, as in the arrays; texts become classes in sorted order."""
    frame = pd.DataFrame({"size": [1, 2, 3, 4], "weight": [0.5, 1.5, 2.5, 3.5]}, index=[3, 2, 1, 0])
    series = pd.Series(["red", "blue", "red", "green"], index=[9, 8, 7, 6])
    data = load(((frame, series), (frame, series)))
    order = np.argsort(data.x_train[:, 0])
    np.testing.assert_array_equal(data.x_train[order], [[1, 0.5], [2, 1.5], [3, 2.5], [4, 3.5]])
    assert data.y_train[order].tolist() == [2, 0, 2, 1]
    assert (data.task, data.num_outputs, data.y_train.dtype) == ("classification", 3, np.int32)


def test_texts_and_categories_of_a_table_become_features() -> None:
    """Over all parts: blue, green, red; numbers and booleans first, as they are."""
    columns = {"size": [1, 2], "flag": [True, False]}
    frames = [
        pd.DataFrame({"colour": ["red", "blue"], **columns}),
        pd.DataFrame({"colour": pd.Categorical(["green", "red"]), **columns}),
    ]
    train, validation = (({"table": frame}, np.array([0, 1])) for frame in frames)
    data = load((train, validation))
    found = data.x_train["table"][np.argsort(data.x_train["table"][:, 0])]
    assert found.tolist() == [[1, 1, 0, 0, 1], [2, 0, 1, 0, 0]]
    assert data.x_val["table"].tolist() == [[1, 1, 0, 1, 0], [2, 0, 0, 0, 1]]


TEXTS = ["a", "b", "a", "b"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            ["a", "b", "c", "d"],
            "fewer values than rows.*Received: 4 different values in column 't'",
        ),
        (["a", None, "b", "b"], "Received: 1 empty cells in column 't'"),
        (pd.to_datetime(["2026-01-01"] * 4), "Received: datetime64.* in column 't'"),
        (["a", 1, "b", [2]], "Received: object in column 't'"),
    ],
)
def test_a_column_that_is_no_feature_is_named(column: Any, message: str) -> None:
    frame = pd.DataFrame({"n": [1.0, 2.0, 3.0, 4.0], "t": column})
    with pytest.raises(ConfigError, match=f"{message}.*or leave it out") as error:
        load((frame, np.array([0, 1, 0, 1])))
    assert "\n" not in str(error.value)


def test_tables_of_other_columns_are_of_another_shape() -> None:
    y = np.array([0, 1, 0, 1])
    one, two = pd.DataFrame({"t": TEXTS}), pd.DataFrame({"t": TEXTS, "n": range(4)})
    with pytest.raises(ConfigError):
        load(((one, y), (two, y)))


def test_classes_are_numbered_over_all_parts() -> None:
    """A class that only the test part has gets an output; numbers need not begin at 0."""
    x = np.zeros((4, 1))
    pairs = {"train": [5, 5, 9, 9], "validation": [9, 5, 9, 5], "test": [7, 5, 7, 9]}
    data = load({part: (x, np.array(y)) for part, y in pairs.items()})
    assert (data.y_val.tolist(), data.y_test.tolist()) == ([2, 0, 2, 0], [1, 0, 1, 2])
    assert data.num_outputs == 3


def test_booleans_are_two_classes_and_a_column_is_flattened() -> None:
    x = np.zeros((4, 1))
    pair = (x, np.array([[True], [False], [True], [True]]))
    data = load((pair, pair))
    assert (data.y_val.tolist(), data.num_outputs) == ([1, 0, 1, 1], 2)


@pytest.mark.parametrize("shape", [(10,), (10, 1), (10, 3)])
def test_floats_are_a_regression(shape: tuple[int, ...]) -> None:
    y = np.linspace(0.0, 1.0, int(np.prod(shape))).reshape(shape)
    pair = (np.zeros((10, 2)), y)
    data = load((pair, pair), dtype="float32")
    outputs = 1 if len(shape) == 1 else shape[1]
    assert (data.task, data.num_outputs) == ("regression", outputs)
    assert (data.y_val.dtype, data.y_val.shape) == (np.float32, (10, outputs))
    np.testing.assert_allclose(data.y_val, y.reshape(10, outputs))


def test_floats_of_zeros_and_ones_need_the_task() -> None:
    """They may be two classes, or a measurement."""
    y = np.array([[0.0], [1.0], [1.0], [0.0]])
    pair = (np.zeros((4, 2)), y)
    with pytest.raises(ConfigError, match=r"task` must be set.*floats that are all 0 or 1"):
        load((pair, pair))
    data = load((pair, pair), task="classification")
    assert (data.y_val.tolist(), data.num_outputs) == ([0, 1, 1, 0], 2)
    assert load((pair, pair), task="regression").y_val.tolist() == y.tolist()


@pytest.mark.parametrize("y", [[3, 3, 3, 3], ["a"] * 4, [False] * 4])
def test_one_class_is_none_to_tell_from(y: list[Any]) -> None:
    pair = (np.zeros((4, 2)), np.array(y))
    with pytest.raises(ConfigError, match="at least two classes"):
        load((pair, pair))


def test_several_ones_in_a_row_are_labels() -> None:
    y = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0]])
    pair = (np.zeros((3, 2)), y)
    data = load((pair, pair))
    assert (data.task, data.num_outputs, data.y_val.dtype) == ("multilabel", 3, np.float64)
    assert data.y_val.tolist() == y.tolist()


def test_one_hot_rows_need_the_task() -> None:
    y = np.eye(3)[[2, 0, 1, 2]]
    pair = (np.zeros((4, 2)), y)
    with pytest.raises(ConfigError, match=r"`data\.task` must be set.*a single 1 in each row"):
        load((pair, pair))
    data = load((pair, pair), task="classification")
    assert (data.y_val.tolist(), data.num_outputs) == ([2, 0, 1, 2], 3)
    data = load((pair, pair), task="multilabel")
    assert (data.y_val.tolist(), data.num_outputs) == (y.tolist(), 3)


def test_many_whole_numbers_need_the_task() -> None:
    """100 different ones are classes; 101 may be a measurement."""
    x, y = np.zeros((101, 1)), np.arange(101)
    assert load(((x[:100], y[:100]), (x[:100], y[:100]))).num_outputs == 100
    with pytest.raises(ConfigError, match=r"Received: 101 different whole numbers.*Set data\.task"):
        load(((x, y), (x, y)))
    data = load(((x, y), (x, y)), task="regression")
    assert (data.num_outputs, data.y_val[3].tolist()) == (1, [3.0])
    assert load(((x, y), (x, y)), task="classification").num_outputs == 101


@pytest.mark.parametrize(
    ("y", "task", "message"),
    [
        (["a", "b"], "regression", r"data\.task=regression` needs targets that are numbers"),
        (["a", "b"], "multilabel", r"data\.task=multilabel` needs targets that are numbers"),
        ([[0.5, 0.5], [1.0, 0.0]], "classification", "needs one class for each example"),
        ([0.0, np.nan], "classification", "Data must be finite. Received: nan .* in y"),
        ([0.0, np.inf], None, "Data must be finite. Received: nan .* in y"),
        ([None, "a"], None, "Received: Python objects"),
        (["a", "1"], "regression", r"Received: 'a' among texts, from .*Return other targets, or"),
        (
            ["1.5", "2"],
            "regression",
            "Received: <U3 from .*Convert them to numbers",
        ),
        ([["1", "x"], ["2", "y"]], None, "data.task=regression` needs .*Received: 'x' among texts"),
        ([0.25, 0.5, 0.75], "classification", "at most 2 classes in 3 .* Set data.task=regression"),
    ],
)
def test_targets_of_another_task(y: list[Any], task: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load((np.zeros((len(y), 1)), np.array(y)), task=task)


def test_a_text_among_numbers_in_any_part() -> None:
    """In y, and in a column of a table, whose row is named."""
    y = np.array(["1", "2", "n/a", "4"])
    with pytest.raises(ConfigError, match=r"all numbers or all labels.*'n/a' among numbers, from"):
        load((np.zeros((4, 1)), y))
    frames = [pd.DataFrame({"n": list(cells)}) for cells in ("1212", "12?2")]
    message = r"'\?' among numbers, in row 2 and column 'n'.*or convert the column in the function"
    with pytest.raises(ConfigError, match=message):
        load(tuple((frame, np.array([0, 1, 0, 1])) for frame in frames))


def test_label_noise_needs_classes() -> None:
    pair = (np.zeros((4, 1)), np.linspace(0, 1, 4))
    with pytest.raises(ConfigError, match="redraws classes, which a regression does not have"):
        load((pair, pair), label_noise=0.1)


def test_standardizing_uses_the_training_examples_that_are_kept() -> None:
    """Mean 2 and deviation 1 of 1 and 3; what is constant is centred only; tokens stay."""
    x = np.array([[1.0, 5.0], [3.0, 5.0]])
    other = np.array([[6.0, 5.0], [0.0, 7.0]])
    y, tokens = np.array([0, 1]), np.array([[4], [6]])
    data = load(
        [((x, tokens), y), ((other, tokens), y), ((other + 1, tokens), y)], standardize=True
    )
    assert sorted(data.x_train[0].tolist()) == [[-1.0, 0.0], [1.0, 0.0]]
    assert data.x_val[0].tolist() == [[4.0, 0.0], [-2.0, 2.0]]
    assert data.x_test[0].tolist() == [[5.0, 1.0], [-1.0, 3.0]]
    assert data.x_val[1].tolist() == [[4], [6]]
    nested = load([({"a": x}, y), ({"a": other}, y)], standardize=True)
    assert nested.x_val["a"].tolist() == [[4.0, 0.0], [-2.0, 2.0]]
    # Of three examples num_train keeps two, whose deviation is 1 again.
    x = np.array([[0.0], [0.0], [300.0]])
    kept = load(((x, np.array([0, 0, 1])), (x, np.array([0, 0, 1]))), standardize=True, num_train=2)
    assert sorted(kept.x_train.ravel().tolist()) in ([0.0, 0.0], [-1.0, 1.0])


def test_images_of_whole_numbers_are_standardized() -> None:
    x = np.array([0, 2], "uint8").reshape(2, 1, 1, 1)
    data = load(((x, [0, 1]), (x + 2, [0, 1])), standardize=True)
    assert data.x_val.ravel().tolist() == [1.0, 3.0]


def test_tokens_cannot_be_standardized() -> None:
    pair = (np.arange(4).reshape(2, 2), np.array([0, 1]))
    with pytest.raises(ConfigError, match=r"`data\.standardize` needs inputs that are no tokens"):
        load((pair, pair), standardize=True)


def test_dtypes() -> None:
    """Floats and images as the run computes, other whole numbers as tokens."""
    pair = ({"a": np.ones((2, 3)), "b": np.ones((2, 3), "int64"), "c": np.ones((2, 3, 3), "uint8"),
             "d": np.ones((2, 3), bool)}, np.array([0, 1]))  # fmt: skip
    data = load((pair, pair), dtype="float32")
    assert {key: str(array.dtype) for key, array in data.x_val.items()} == {
        "a": "float32", "b": "int32", "c": "float32", "d": "float32"
    }  # fmt: skip


X, Y = np.zeros((4, 2)), np.array([0, 1, 0, 1])
WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: None, "Received: NoneType. Correct what it returns"),
    (lambda: X, "Received: ndarray"),
    (lambda: (X, Y, X, Y), "Received: tuple of 4"),
    (lambda: ((X, Y),), "Received: tuple of 1"),
    (lambda: {"training": (X, Y)}, "Received: keys training"),
    (lambda: {"test": (X, Y)}, "Received: keys test"),
    (lambda: {"train": X}, "Received: keys train"),
    (lambda: {"train": (X, Y), "other": (X, Y)}, "Received: keys train, other"),
    (lambda: (X, Y[:3]), r"same number of examples.* \[3, 4\] in the part train"),
    (lambda: ({"a": X, "b": X[:2]}, Y), r"same number of examples.* \[2, 4\] in the part train"),
    (lambda: ((X, Y), (X[:0], Y[:0])), r"at least one. Received: \[0\] in the part validation"),
    (lambda: (5, 3), r"same number of examples, at least one"),
    (lambda: ((X, Y), (X[:, :1], Y)), "one shape in all parts.*'validation': \\(1,\\)"),
    (lambda: ((X, X), (X, X[:, :1])), "y must have one shape in all parts"),
    (lambda: ((X + np.nan, Y), (X, Y)), "nan or infinite values in x of the part train"),
    (lambda: ((X, Y), ({"a": X}, Y)), "one shape in all parts"),
    (lambda: ((X, Y), (X, Y), ([[np.inf]] * 4, Y)), "one shape in all parts"),
    (lambda: ((X, Y), (X, Y), (X - np.inf, Y)), "nan or infinite values in x of the part test"),
    (lambda: ([[1], [1, 2], [3]], [0, 1, 0]), "Data must be arrays. Received: "),
    (lambda: (np.array([["a"], ["b"]]), Y[:2]), "x must be numbers, y one array.*texts in x"),
    (lambda: (X, {"a": Y, "b": Y}), "several arrays in y"),
    (lambda: (np.array([["x"], [1]], object), Y[:2]), "Python objects"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "message"), WRONG)
def test_what_no_dataset_can_be(found: Callable[[], Any], message: str) -> None:
    """Each is one line that says what came from which target."""
    with pytest.raises(ConfigError, match=message) as error:
        load(found())
    assert "\n" not in str(error.value)


def test_a_target_is_given_the_seed_and_the_dtype() -> None:
    """Its own value would be replaced, so it is a mistake."""
    with pytest.raises(ConfigError, match=r"`data\.dtype` must be left out, as"):
        load_data(configs.of_target(DataConfig, f"{__name__}.drawn", dtype="f2"), 3, "float32")
    config = configs.of_target(DataConfig, f"{__name__}.drawn")
    assert load_data(config, 3, "float32").x_val.ravel().tolist() == [3.0] * 10
