"""Tables in CSV and arrays in npz."""

from __future__ import annotations

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
    message = r"2 empty cells in column 'a'\. .*data\.drop=\[a\]"
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
    with pytest.raises(ConfigError, match=r"1 empty cells in column 'y'\. .*leave these rows out"):
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
