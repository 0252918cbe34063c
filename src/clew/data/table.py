"""A table, and its columns as numbers: which there are, which one is meant, and what is wrong with a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from clew.errors import DataError, did_you_mean

EMPTY = ("", "na", "n/a", "nan", "null", "none")
TIMES = ("date", "time", "datetime", "timestamp", "index", "rownames", "row", "year", "month")


@dataclass(frozen=True)
class Table:
    """A table and where it is from. Text files have text columns; Parquet's have the types that they came with."""

    name: str
    frame: pl.DataFrame
    header: bool
    sha256: str
    lines: Sequence[int]  # the line in the file of each row
    decimal_comma: bool = False

    @property
    def rows(self) -> int:
        return self.frame.height


def numeric(table: Table, column: str | int) -> np.ndarray:
    """A column, by name or by number from 1, as float64 (T,).

    Raises:
        DataError: no such column, or a cell that is empty, not a number or not finite.
    """
    name = column_name(table, column)
    values = _numbers(table, name).to_numpy()
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        cell = table.frame[name][int(bad[0])]
        empty = cell is None or str(cell).strip().lower() in EMPTY
        what = "the cell is empty" if empty else f"'{str(cell)[:40]}' is not a number that can be learned from"
        hint = "fill it in or drop the row; clew does not guess" if empty else _hint_for(str(cell))
        raise DataError(what, file=table.name, row=table.lines[int(bad[0])], column=name, hint=hint)
    return values


def column_name(table: Table, column: str | int) -> str:
    """The name of a column given by name, or by number from 1.

    Raises:
        DataError: there is none.
    """
    column, names = str(column), table.frame.columns
    if column in names:
        return column
    if column.isdecimal() and 1 <= int(column) <= len(names):
        return names[int(column) - 1]
    raise DataError(f"no column '{column}'", file=table.name, hint=did_you_mean(column, names))


def numeric_columns(table: Table) -> list[str]:
    """The columns in which most cells are numbers. A cell that is none is a mistake to be named when it is read."""
    found = []
    for name in table.frame.columns:
        if table.frame[name].dtype != pl.Boolean and _numbers(table, name).is_not_nan().sum() > table.rows / 2:
            found.append(name)
    return found


def guess_target(table: Table) -> str:
    """The last numeric column that does not merely count the time.

    Raises:
        DataError: there is no numeric column.
    """
    names = numeric_columns(table)
    if not names:
        raise DataError("no numeric column", file=table.name, hint="a forecast needs a column of numbers")
    values = [name for name in names if not is_time_like(_numbers(table, name).to_numpy(), name)]
    return (values or names)[-1]


def is_time_like(values: np.ndarray, name: str = "") -> bool:
    """Whether a column rises by a constant step (a row number, a decimal year, a time stamp) or is called so."""
    if name.strip().lower() in TIMES:
        return True
    steps = np.diff(values)
    if len(steps) < 2 or not np.isfinite(steps).all():
        return False
    return bool(steps[0] > 0 and np.allclose(steps, steps.mean(), rtol=1e-3))


def _numbers(table: Table, name: str) -> pl.Series:
    """The column as float64 with NaN where a cell is not a number."""
    column = table.frame[name]
    if column.dtype == pl.String:
        column = column.str.strip_chars()
        if table.decimal_comma:
            column = column.str.replace(",", ".", literal=True)
    elif not column.dtype.is_numeric():
        return pl.Series(name, np.full(table.rows, np.nan))
    return column.cast(pl.Float64, strict=False).fill_null(float("nan"))


def _hint_for(cell: str) -> str:
    if "," in cell:
        return "write numbers with a point and without separators: 1234.5"
    return "correct the cell, or choose another --target or --input"
