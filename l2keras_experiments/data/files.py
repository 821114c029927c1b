"""Data in files of one's own: a table in CSV, arrays in npz."""

from __future__ import annotations

import csv as csv_format
import difflib
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from l2keras_experiments.config.schema import ConfigError

MOST_CLASSES = 100  # of whole numbers without `data.task`; more are more likely a measurement
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(\.\d{3})*,\d+")  # 0,5 and 1.234,5
_COMMA_NUMBER = re.compile(r"\s*[+-]?(\d{1,3}(\.\d{3})+|\d+)(,\d+)?([eE][+-]?\d+)?\s*")
_POINT_NUMBER = re.compile(r"\s*[+-]?\d*\.\d+([eE][+-]?\d+)?\s*")
_NPZ_PARTS = {"train": "train", "val": "validation", "test": "test"}


def csv(
    path: str,
    target: str | list[str],
    drop: str | list[str] | None = None,
    sep: str = ",",
    decimal: str = "point",
) -> Any:
    """Reads a table with a header line.

    Columns of numbers are features as they are; columns of texts become one feature for each
    value, 1 where the row has it.

    Args:
        path: Of the file.
        target: Name of the column to predict, or of several.
        drop: Columns that are neither target nor feature, such as an id.
        sep: Character between two cells, or its name: tab, semicolon.
        decimal: How numbers are written: with a point, or with a comma, as in 0,5 and 1.000,5.

    Returns:
        `(x, y)`: float64 (n, features); y (n,) for one target, (n, targets) for several.

    Raises:
        ConfigError: a column that is not there, texts of which each is another one, as ids are, a
            cell that is empty, or a text among numbers. Texts in one target may be labels, which
            `data.task` decides.
    """
    import pandas as pd

    with _readable(path):
        commas = _has_commas(decimal)
        kind = str if commas else None
        table = pd.read_csv(path, sep=_separator(sep), low_memory=False, dtype=kind)
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first cells for names
        raise ConfigError(
            f"The lines of {path} must have as many cells as the header. Received: lines with "
            "more. Name every column in the header, and write numbers with decimal points."
        )
    targets, dropped = _listed(target), _listed(drop)
    check_columns(path, list(table.columns), targets, dropped)
    table = table.drop(columns=dropped)

    def place(row: int) -> str:
        return f"line {line_of(path, row, sep)}"

    if commas:
        table = _with_points(table, path, place)
    _check_filled(table[targets], path, lambda _: "Fill them, or leave these rows out.", place)
    if len(targets) > 1:
        _check_numbers(table[targets], path, place)
    if set(table.columns) == set(targets):
        raise ConfigError(
            f"There must be a feature beside the target in {path}. Received: only "
            f"{', '.join(targets)}. Take a column out of data.drop or data.target."
        )

    def without(column: str) -> str:
        return f"Leave the column out with data.drop=[{','.join([*dropped, column])}]."

    [x] = as_numbers([table.drop(columns=targets)], path, without, place, always=True)
    y = table[targets].to_numpy() if len(targets) > 1 else table[targets[0]].to_numpy()
    return x, y


def as_numbers(
    tables: Sequence[Any],
    source: str,
    remedy: Callable[[str], str],
    place: Callable[[int], str] | None = None,
    *,
    always: bool = False,
) -> Sequence[Any]:
    """Turns columns of texts or categories into one feature for each value of all `tables`.

    Args:
        tables: The DataFrames of all parts.
        source: Where they come from, for errors.
        remedy: What to do about a column that can be no feature.
        place: Names a row of a single table; by default by its number.
        always: Whether to convert tables of numbers, too.

    Returns:
        float64 arrays (n, features); `tables` themselves where they hold numbers only.

    Raises:
        ConfigError: a column of other objects, of one text for each row, with texts among numbers,
            or with empty cells.
    """
    import pandas as pd

    if any(list(one.columns) != list(tables[0].columns) for one in tables):
        return tables  # of different shapes, which is refused later
    table = pd.concat(tables, ignore_index=True)
    numeric = table.select_dtypes("number")
    if numeric.shape == table.shape and not always:
        return tables
    ends = np.cumsum([len(one) for one in tables])
    place = place or (lambda row: f"row {row - max([0, *ends[ends <= row]])}")
    _check_filled(table, source, remedy, place)
    for column in table.columns.difference(numeric.columns, sort=False):
        _check_feature(table[column], source, remedy(column), place)
    features = pd.get_dummies(table).to_numpy("float64")
    return np.split(features, ends[:-1])


def _check_feature(values: Any, source: str, remedy: str, place: Callable[[int], str]) -> None:
    """Raises ConfigError for a column other than of numbers that can be no feature.

    Args:
        values: The column, a Series.
        source: Where it comes from.
        remedy: How to leave it out.
        place: Names a row.
    """
    import pandas as pd

    column = values.name
    if isinstance(values.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(values):
        return
    if not pd.api.types.is_string_dtype(values):
        raise ConfigError(
            "A column must hold numbers, texts or categories. Received: "
            f"{values.dtype} in column {column!r} of {source}. {remedy}"
        )
    text = first_text(values.tolist())
    if text is not None and text.among_numbers:
        otherwise = f"{remedy[0].lower()}{remedy[1:]}".rstrip(".")
        raise ConfigError(
            "A column must hold numbers only, or texts only. Received: "
            f"{text.cell!r} among numbers, in {place(text.row)} and column {column!r} of {source}. "
            + text.remedy(f" (in a category, begin every cell with a letter), or {otherwise}")
        )
    if len(values) > 1 and values.nunique() == len(values):
        raise ConfigError(
            "A column of texts must have fewer values than rows: each becomes a feature. "
            f"Received: {len(values)} different values in column {column!r} of {source}. {remedy}"
        )


@dataclass(frozen=True)
class Text:
    """A cell that is no number.

    Attributes:
        row: Its number, from 0.
        cell: As written.
        among_numbers: Whether most cells of the column are numbers.
    """

    row: int
    cell: str
    among_numbers: bool

    def remedy(self, otherwise: str) -> str:
        """What to do: correct the cell, or `otherwise`; of a decimal comma, say so."""
        if _DECIMAL_COMMA.fullmatch(self.cell.strip()):
            return "It has a decimal comma: set data.decimal=comma."
        return f"Correct the cell{otherwise}."


def first_text(cells: Sequence[str]) -> Text | None:
    """The first cell that is no number, or None. A number with a decimal comma is no number yet."""
    are_numbers = {cell: _is_number(cell) for cell in set(cells)}
    row = next((i for i, cell in enumerate(cells) if not are_numbers[cell]), None)
    if row is None:
        return None
    meant = {cell for cell in are_numbers if _DECIMAL_COMMA.fullmatch(cell.strip())}
    count = sum(are_numbers[cell] or cell in meant for cell in cells)
    return Text(row, cells[row], among_numbers=2 * count > len(cells))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def line_of(path: str, row: int, sep: str = ",") -> int:
    """The line of a CSV file in which a row of its table begins; the header is line 1."""
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv_format.reader(file, delimiter=_separator(sep))
        begin, seen = 1, -1  # the header comes first
        for cells in reader:
            seen += any(map(str.strip, cells)) or len(cells) > 1  # pandas skips empty lines
            if seen > row:
                break
            begin = reader.line_num + 1
    return begin


def _check_numbers(table: Any, source: str, place: Callable[[int], str]) -> None:
    for column in table.select_dtypes(exclude=["number", "bool"]).columns:
        text = first_text(table[column].tolist())
        if text is not None:
            raise ConfigError(
                f"Several targets must be numbers. Received: {text.cell!r} in {place(text.row)} "
                f"and column {column!r} of {source}. "
                + text.remedy(", or take the column out of data.target")
            )


def _check_filled(
    table: Any, source: str, remedy: Callable[[str], str], place: Callable[[int], str]
) -> None:
    for column in table.columns:
        are_empty = table[column].isna().to_numpy()
        if are_empty.any():
            raise ConfigError(
                f"Every cell of {source} must have a value. Received: {int(are_empty.sum())} empty "
                f"cells in column {column!r}, the first in {place(int(are_empty.argmax()))}. "
                f"{remedy(column)}"
            )


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Raises ConfigError for a file that is no table."""
    try:
        yield
    except (ValueError, csv_format.Error) as error:  # those of pandas are ValueErrors
        raise ConfigError(
            "`data.path` must be a CSV file in UTF-8 with a header line. "
            f"Received: data.path={path} ({' '.join(str(error).split())}). Convert the file."
        ) from None


_SEPARATORS = {"tab": "\t", "semicolon": ";"}


def _separator(sep: str) -> str:
    character = _SEPARATORS.get(sep, sep)
    if len(character) != 1:
        raise ConfigError(
            "`data.sep` must be one character, tab or semicolon. "
            f"Received: data.sep={sep}. For a comma leave it out."
        )
    return character


def _has_commas(decimal: str) -> bool:
    """Whether numbers are written as 0,5.

    Raises:
        ConfigError: `decimal` is neither point nor comma.
    """
    if decimal not in ("point", "comma"):
        raise ConfigError(
            "`data.decimal` must be point or comma. "
            f"Received: data.decimal={decimal}. Write one of them."
        )
    return decimal == "comma"


def _with_points(table: Any, path: str, place: Callable[[int], str]) -> Any:
    """A table of texts whose numbers have decimal commas, with its numbers as numbers.

    Raises:
        ConfigError: a number with a decimal point, which may be meant as another one.
    """
    import pandas as pd

    def converted(cells: Any) -> Any:
        has_comma = cells.str.fullmatch(_COMMA_NUMBER.pattern, na=False)
        has_point = (cells.str.fullmatch(_POINT_NUMBER.pattern, na=False) & ~has_comma).to_numpy()
        if has_point.any():
            row = int(has_point.argmax())
            raise ConfigError(
                "Under data.decimal=comma a point must stand before three digits. Received: "
                f"{cells.iloc[row]!r}, in {place(row)} and column {cells.name!r} of {path}. "
                "Write all numbers alike."
            )
        points = cells.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
        return cells.mask(has_comma, points)

    text = table.apply(converted).to_csv(index=False)
    return pd.read_csv(io.StringIO(text), low_memory=False)


def npz(path: str) -> Any:
    """Reads arrays that `numpy.savez` wrote: x and y, or x_train, y_train, x_val, y_val, ...

    Args:
        path: Of the file.

    Returns:
        `(x, y)`, or a dict of such pairs: train, and where they are there validation and test.

    Raises:
        ConfigError: other names, or arrays of Python objects.
    """
    arrays = _arrays_of(path)
    names = set(arrays)
    if names == {"x", "y"}:
        return arrays["x"], arrays["y"]
    parts = [part for part in _NPZ_PARTS if {f"x_{part}", f"y_{part}"} <= names]
    expected = {f"{letter}_{part}" for letter in "xy" for part in parts}
    if "train" not in parts or names != expected:
        raise ConfigError(
            "An npz file must hold x and y, or x_train and y_train with or without x_val, "
            f"y_val, x_test, y_test. Received: {', '.join(sorted(names)) or 'none'} in {path}. "
            "Save it with numpy.savez(path, x=x, y=y)."
        )
    return {_NPZ_PARTS[part]: (arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in parts}


def _arrays_of(path: str) -> dict[str, Any]:
    """What is in an npz file, by name.

    Raises:
        ConfigError: it is none, or holds Python objects, which could run code.
    """
    try:
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ConfigError(
            "`data.path` must be an npz file of numbers or texts. "
            f"Received: data.path={path} ({' '.join(str(error).split())}). "
            "Save it with numpy.savez(path, x=x, y=y)."
        ) from None


def check_csv(
    path: str, target: Any, drop: Any = None, sep: str = ",", decimal: str = "point"
) -> None:
    """Raises ConfigError for a column that the header of the file does not have."""
    _has_commas(decimal)
    separator = _separator(sep)
    with _readable(path), Path(path).open(newline="", encoding="utf-8-sig") as file:
        header = next(csv_format.reader(file, delimiter=separator), [])
    check_columns(path, header, _listed(target), _listed(drop))


def check_columns(
    path: str, columns: Sequence[str], target: Sequence[str], drop: Sequence[str]
) -> None:
    """Raises ConfigError for columns that are not there, or both target and dropped."""
    for key, names in (("target", target), ("drop", drop)):
        for name in names:
            if name not in columns:
                near = difflib.get_close_matches(name, columns, n=1, cutoff=0.5)
                shown = ", ".join(columns[:20])
                hint = f"Did you mean {near[0]}?" if near else f"Its columns: {shown}."
                if len(columns) == 1:
                    hint = f"Its only column: {shown}. For another separator set data.sep."
                raise ConfigError(
                    f"`data.{key}` must be a column of {path}. Received: data.{key}={name}. {hint}"
                )
    both = set(target) & set(drop)
    if both:
        raise ConfigError(
            f"A column cannot be target and left out. Received: {', '.join(sorted(both))} in both "
            "`data.target` and `data.drop`. Take it out of one."
        )


def _listed(names: Any) -> list[str]:
    return [] if names is None else [names] if isinstance(names, str) else list(names)
