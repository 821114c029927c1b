"""Tables in CSV and arrays in npz."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2keras_experiments.config.schema import ConfigError
from l2keras_experiments.data import files
from l2keras_experiments.data.datasets import check_data_config, load_data
from tests.support import configs

TABLE = """id,colour,size,price,kind
1,red,1.5,10,good
2,blue,2.5,20,bad
3,red,3.5,30,good
4,green,4.5,40,fair
"""


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "things.csv"
    path.write_text(TABLE)
    return str(path)


def load(name: str, path: str, **keys: Any) -> Any:
    return load_data(configs.data(name, path=path, **keys), seed=0, dtype="float64")


def test_text_columns_become_one_feature_for_each_value(table: str) -> None:
    """Numbers first, as they are; then blue, green and red; `drop` leaves out the id."""
    x, y = files.csv(table, "kind", drop="id")
    assert x.tolist() == [
        [1.5, 10, 0, 0, 1], [2.5, 20, 1, 0, 0], [3.5, 30, 0, 0, 1], [4.5, 40, 0, 1, 0]
    ]  # fmt: skip
    assert x.dtype == np.float64
    assert y.tolist() == ["good", "bad", "good", "fair"]


def test_several_targets_and_several_columns_left_out(table: str) -> None:
    x, y = files.csv(table, ["size", "price"], drop=["kind", "colour"])
    assert x.tolist() == [[1], [2], [3], [4]]
    assert y.tolist() == [[1.5, 10], [2.5, 20], [3.5, 30], [4.5, 40]]
    with pytest.raises(ConfigError, match=r"a feature beside the target.*only size, price"):
        files.csv(table, ["size", "price"], drop=["id", "kind", "colour"])


def test_a_table_becomes_a_dataset(table: str) -> None:
    """Named after its file; the classes of the texts are in sorted order."""
    data = load("csv", table, target="kind", drop="id", validation_fraction=0.5, test_fraction=0.5)
    assert (data.name, data.task, data.num_outputs) == ("things", "classification", 3)
    assert data.input_shape == (5,)
    assert (len(data.y_train), len(data.y_val), len(data.y_test)) == (1, 1, 2)
    classes = {10: 2, 20: 0, 30: 2, 40: 1}  # by price: bad, fair, good
    for x, y in (
        (data.x_train, data.y_train),
        (data.x_val, data.y_val),
        (data.x_test, data.y_test),
    ):
        assert y.tolist() == [classes[int(row[1])] for row in x]


def test_an_empty_cell_is_named_with_its_column(tmp_path: Path) -> None:
    path = tmp_path / "holes.csv"
    path.write_text("a,b,y\n1,2,0\n,3,1\n,4,0\n")
    message = r"2 empty cells in column 'a', the first in line 3\. .*data\.drop=\[a\]"
    with pytest.raises(ConfigError, match=message):
        load("csv", str(path), target="y")
    data = load("csv", str(path), target="y", drop="a", validation_fraction=0.5)
    assert data.input_shape == (1,)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"target": "knid"}, r"`data\.target` must be a column.*data\.target=knid\. .*mean kind\?"),
        ({"target": "weather"}, "Its columns: id, colour, size, price, kind"),
        ({"target": "kind", "drop": "di"}, r"`data\.drop` must be a column.*Did you mean id\?"),
        ({"target": "kind", "drop": ["id", "kind"]}, "cannot be target and left out.*kind in both"),
        ({"target": ["kind", "sizes"]}, r"data\.target=sizes\. Did you mean size\?"),
        ({}, "Received: no target. Set data.target="),
    ],
)
def test_columns_that_are_not_there(table: str, keys: dict[str, Any], message: str) -> None:
    """Answered from the header, before the table is read."""
    with pytest.raises(ConfigError, match=message):
        check_data_config(configs.data("csv", path=table, **keys))


def test_an_empty_target_is_not_left_out(tmp_path: Path) -> None:
    path = tmp_path / "holes.csv"
    path.write_text("a,y\n1,2\n3,\n")
    with pytest.raises(ConfigError, match=r"1 empty cells in column 'y', .*leave these rows out"):
        load("csv", str(path), target="y")


def test_an_id_is_no_feature(table: str) -> None:
    """Four values in four rows; the remedy has what is left out already."""
    Path(table).write_text(TABLE.replace("1,red", "1,violet"))
    message = r"4 different values in column 'colour' of .*data\.drop=\[id,colour\]"
    with pytest.raises(ConfigError, match=message):
        load("csv", table, target="kind", drop="id")


@pytest.mark.parametrize(("sep", "character"), [("semicolon", ";"), (";", ";"), ("tab", "\t")])
def test_cells_may_be_separated_otherwise(table: str, sep: str, character: str) -> None:
    expected = files.csv(table, "kind", drop="id")[0].tolist()
    Path(table).write_text(TABLE.replace(",", character))
    check_data_config(configs.data("csv", path=table, target="kind", sep=sep))
    assert files.csv(table, "kind", drop="id", sep=sep)[0].tolist() == expected
    with pytest.raises(ConfigError, match=r"Its only column: id.*set data\.sep"):
        check_data_config(configs.data("csv", path=table, target="kind"))
    with pytest.raises(ConfigError, match="must be one character, tab or semicolon"):
        check_data_config(configs.data("csv", path=table, target="kind", sep="; "))


@pytest.mark.parametrize("content", [b"a,y\n\xf1\x00,1\n", b"\xf1,y\n1,2\n"])
def test_what_is_no_text_is_no_table(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "binary.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"`data\.path` must be a CSV file in UTF-8.*data\.path="):
        load("csv", str(path), target="y")


def test_a_table_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("a,y\n")
    with pytest.raises(ConfigError, match=r"at least one\. Received"):
        load("csv", str(path), target="y")


X, Y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2


def saved(folder: Path, **arrays: Any) -> str:
    path = folder / "arrays.npz"
    np.savez(path, **arrays)
    return str(path)


def test_x_and_y_are_split(tmp_path: Path) -> None:
    data = load("npz", saved(tmp_path, x=X, y=Y))
    assert (data.name, len(data.y_train), len(data.y_val), len(data.y_test)) == ("arrays", 6, 2, 2)
    rows = np.concatenate([data.x_train, data.x_val, data.x_test])
    assert sorted(rows.tolist()) == X.tolist()


def test_parts_are_not(tmp_path: Path) -> None:
    path = saved(tmp_path, x_train=X, y_train=Y, x_val=X[:4], y_val=Y[:4], x_test=-X, y_test=Y)
    data = load("npz", path)
    assert sorted(data.x_train.tolist()) == X.tolist()
    assert (data.x_val.tolist(), data.x_test.tolist()) == (X[:4].tolist(), (-X).tolist())


def test_texts_are_classes(tmp_path: Path) -> None:
    data = load("npz", saved(tmp_path, x=X, y=np.array(["b", "a"] * 5)))
    assert data.num_outputs == 2
    assert data.y_val.tolist() == [int(row[0] / 2 + 1) % 2 for row in data.x_val]


@pytest.mark.parametrize(
    ("names", "received"),
    [
        ("a b", "Received: a, b"),
        ("x", "Received: x in"),
        ("x y z", "Received: x, y, z"),
        ("x_train", "Received: x_train in"),
        ("x_val y_val", "Received: x_val, y_val"),
        ("x_train y_train x_val", "Received: x_train, x_val, y_train"),
    ],
)
def test_other_names_are_listed(tmp_path: Path, names: str, received: str) -> None:
    path = saved(tmp_path, **dict.fromkeys(names.split(), X))
    with pytest.raises(ConfigError, match=f"must hold x and y, .*{received}"):
        load("npz", path)


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    """They could run code."""
    objects = np.empty(10, object)
    objects[:] = [[1, 2]] * 10
    with pytest.raises(ConfigError, match=r"npz file of numbers or texts.*allow_pickle=False"):
        load("npz", saved(tmp_path, x=objects, y=Y))


def test_what_is_no_npz_file(tmp_path: Path) -> None:
    path = tmp_path / "single.npy"
    np.save(path, X)
    for content in (path.read_bytes(), b"", b"PK\x03\x04 cut short", b"text"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="must be an npz file") as error:
            load("npz", str(path))
        assert "\n" not in str(error.value)


def written(folder: Path, text: str) -> str:
    path = folder / "cells.csv"
    path.write_text(text)
    return str(path)


NUMBERS = "a,b,y\n1,5,0.5\n\n2,6,{y}\n3,7,2.5\n{a},8,3.5\n"  # line 3 is empty


@pytest.mark.parametrize("task", [None, "regression", "multilabel"])
def test_a_text_among_the_numbers_of_a_target(task: str | None, tmp_path: Path) -> None:
    """Or in one of several. It is a label where that is set."""
    path = written(tmp_path, NUMBERS.format(y="?", a=4))
    remedy = "Correct the cell, or set data.task=classification"
    with pytest.raises(ConfigError, match=rf"'\?' among numbers, in line 4 .*'y'.*{remedy}"):
        load("csv", path, target="y", task=task)
    with pytest.raises(ConfigError, match=r"must be numbers.*'\?' in line 4 and column 'y' of"):
        load("csv", path, target=["a", "y"], task=task)
    path = written(tmp_path, NUMBERS.format(y="?", a=4) + NUMBERS.format(y="?", a=4)[6:])
    assert load("csv", path, target="y", task="classification").num_outputs == 4


def test_labels_of_a_regression(table: str) -> None:
    """Most cells are texts: the column is the wrong one."""
    remedy = r"Choose another data\.target, or set data\.task=classification"
    with pytest.raises(ConfigError, match=rf"'good' among texts, in line 2 .*'kind'.*{remedy}"):
        load("csv", table, target="kind", drop="id", task="regression")


@pytest.mark.parametrize(
    ("cell", "remedy"),
    [
        ("?", r"Correct the cell \(in a category, .*\), or leave the column out with data\.drop="),
        ('"0,5"', r" It has a decimal comma: set data\.decimal=comma\.$"),
        ('"1.000,5"', r" It has a decimal comma: set data\.decimal=comma\.$"),
    ],
)
def test_a_text_among_the_numbers_of_a_feature(cell: str, remedy: str, tmp_path: Path) -> None:
    path = written(tmp_path, NUMBERS.format(y=1, a=cell))
    shown = re.escape(repr(cell.strip('"')))
    message = rf"{shown} among numbers, in line 6 and column 'a' of .*{remedy}"
    with pytest.raises(ConfigError, match=message):
        load("csv", path, target="y")


@pytest.mark.parametrize("task", [None, "regression"])
def test_decimal_commas(task: str | None, tmp_path: Path) -> None:
    """In each cell of a file with semicolons, as spreadsheets write it."""
    path = written(tmp_path, NUMBERS.format(y=1.5, a=4).replace(",", ";").replace(".", ","))
    with pytest.raises(ConfigError, match=r"'0,5' among numbers, in line 2 .*decimal comma"):
        load("csv", path, target="y", sep=";", task=task)
    with pytest.raises(ConfigError, match=r"'0,5' among numbers, in line 2 and column 'y'.*comma"):
        load("csv", path, target="a", sep=";", task=task)
    read = load("csv", path, target="y", sep=";", task=task, decimal="comma")
    assert {1.5, 0.5} <= set(read.y_train.ravel().tolist() + read.y_val.ravel().tolist())
    with pytest.raises(ConfigError, match="must be point or comma"):
        load("csv", path, target="y", sep=";", decimal=",")


def test_numbers_with_decimal_commas(tmp_path: Path) -> None:
    """By hand; a point that is no thousand's is refused, as is a text, each with its line."""
    rows = "".join(f"{i},5;1.00{i},25;{'ab'[i % 2]}\n" for i in range(10))
    path = written(tmp_path, f"a;b;y\n{rows}")
    x, y = files.csv(path, "y", sep=";", decimal="comma")
    assert x.tolist() == [[i + 0.5, 1000 + i + 0.25] for i in range(10)]
    assert y.tolist() == list("ab") * 5
    for cell, message in (
        (
            "1.5",
            r"before three digits\. Received: '1\.5', in line 3 and column 'a'",
        ),
        ("?", r"Received: '\?' among numbers, in line 3 and column 'a'.*Correct the cell"),
    ):
        path = written(tmp_path, f"a;b;y\n{rows}".replace("1,5;", f"{cell};"))
        with pytest.raises(ConfigError, match=message):
            files.csv(path, "y", sep=";", decimal="comma")


def test_lines_with_more_cells_than_the_header(tmp_path: Path) -> None:
    """They would move each column: numbers with decimal commas without quotes."""
    with pytest.raises(ConfigError, match=r"as many cells as the header.*decimal points"):
        load("csv", written(tmp_path, "a,y\n0,5,1\n0,7,2\n"), target="y")


def test_the_line_of_a_row(tmp_path: Path) -> None:
    """A cell in quotes may have several lines; lines of spaces are none of the table."""
    path = written(tmp_path, '\na,"b\nc"\n1,2\n  \n"3\n",4\n5,6\n')
    assert [files.line_of(path, row) for row in range(3)] == [4, 6, 8]


def test_targets_that_are_ids_or_measurements(tmp_path: Path) -> None:
    """About as many classes as examples: a regression, or the wrong column."""
    rows = "".join(f"{i % 3},name{i},{i / 4}\n" for i in range(24))
    path = written(tmp_path, f"a,name,size\n{rows}")
    message = "at most {} classes in 24 examples.*Received: 24 from cells"
    with pytest.raises(ConfigError, match=rf"{message.format(12)}\. Choose another data\.target\."):
        load("csv", path, target="name", drop="size")
    with pytest.raises(ConfigError, match=rf"{message.format(23)}\. Set data\.task=regression, or"):
        load("csv", path, target="size", drop="name", task="classification")
    y = np.arange(30) % 15  # each class twice
    assert load("npz", saved(tmp_path, x=y, y=y)).num_outputs == 15
    of_16 = saved(tmp_path, x=y, y=np.arange(30) % 16)
    with pytest.raises(ConfigError, match=r"15 classes in 30 examples\. Received: 16 from arrays"):
        load("npz", of_16)
    assert load("npz", of_16, task="classification").num_outputs == 16
