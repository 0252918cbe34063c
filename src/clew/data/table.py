"""A table, and its columns as numbers: which there are, which one is meant, and what is wrong with a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from clew.errors import DataError, did_you_mean

EMPTY = ("", "na", "n/a", "nan", "null", "none")
TIMES = ("date", "time", "datetime", "timestamp", "index", "rownames", "row", "year", "month")
EXACT = 1e15  # below it every whole number is a float
TEXTS = (pl.String, pl.Categorical, pl.Enum)

Kind = Literal["number", "text", "flags", "texts", "numbers", "vectors"]


class Table:
    """A table and where it is from. Text files have text columns; others have the types that they came with.

    Args:
        name: what errors call it.
        frame: its columns; a lazy one gives them when they are asked for.
        header: whether its columns were named.
        sha256: of the file.
        lines: the line in the file of each row.
        decimal_comma: whether numbers are written 1,5.
    """

    def __init__(
        self,
        name: str,
        frame: pl.DataFrame | pl.LazyFrame,
        header: bool,
        sha256: str,
        lines: Sequence[int],
        decimal_comma: bool = False,
    ) -> None:
        self.name, self.header, self.sha256, self.lines, self.decimal_comma = name, header, sha256, lines, decimal_comma
        self._frame = frame
        self._read = self._from_file
        self._found: dict[str, pl.Series] = {}
        self.schema = frame.collect_schema()

    @property
    def columns(self) -> list[str]:
        return self.schema.names()

    @property
    def rows(self) -> int:
        return len(self.lines)

    @property
    def frame(self) -> pl.DataFrame:
        """The whole table."""
        return pl.DataFrame({name: self.column(name) for name in self.columns})

    def column(self, name: str) -> pl.Series:
        """One column; read from the file at the first time. Raises DataError where the file is damaged."""
        if name not in self._found:
            self._found[name] = self._read(name)
        return self._found[name]

    def take(self, rows: np.ndarray) -> Table:
        """The rows with these indices. Columns that nobody asks for stay unread."""
        lines = [self.lines[i] for i in rows.tolist()]
        part = Table(self.name, self._frame, self.header, self.sha256, lines, self.decimal_comma)
        part._read = lambda name: self.column(name).gather(rows)
        return part

    def _from_file(self, name: str) -> pl.Series:
        if isinstance(self._frame, pl.DataFrame):
            return self._frame[name]
        try:
            return self._frame.select(pl.col([name])).collect().to_series()
        except (Exception, pl.exceptions.PanicException) as error:  # a panic, which damage can cause, is no Exception
            raise DataError("cannot be read: damaged", file=self.name, column=name, hint="write it again") from error


def kind(table: Table, name: str) -> Kind:
    """What the cells of a column are. Texts are numbers where most of those that are not empty are."""
    dtype = table.schema[name]
    if isinstance(dtype, pl.List):
        if isinstance(dtype.inner, pl.List):
            return "vectors"
        return "texts" if dtype.inner in TEXTS else "numbers"
    if dtype == pl.Boolean:
        return "flags"
    if dtype.is_numeric():
        return "number"
    if dtype != pl.String:
        return "text"
    cells = table.column(name)
    filled = int((~cells.str.strip_chars().str.to_lowercase().is_in(EMPTY).fill_null(True)).sum())
    return "number" if filled and as_numbers(table, name).is_not_nan().sum() > filled / 2 else "text"


def texts(table: Table, column: str | int) -> list[str]:
    """A column as texts, exactly as they stand; whole numbers without a point.

    Raises:
        DataError: no such column, one of lists, or an empty (null) cell.
    """
    name = column_name(table, column)
    cells = table.column(name)
    if cells.dtype.is_nested():
        hint = "choose another column, or join the cells' parts to one text each"
        raise DataError("holds lists, where one text a row is meant", file=table.name, column=name, hint=hint)
    if cells.dtype.is_float():
        cells = pl.Series(name, [None if x is None else _written(x) for x in cells], dtype=pl.String)
    elif cells.dtype != pl.String:
        try:
            cells = cells.cast(pl.String)
        except pl.exceptions.PolarsError as error:
            raise DataError("holds no texts", file=table.name, column=name, hint="choose another column") from error
    if cells.null_count():
        row = int(cells.is_null().arg_max() or 0)
        hint = "fill it in or drop the row"
        raise DataError("the cell is empty", file=table.name, row=table.lines[row], column=name, hint=hint)
    return cells.to_list()


def labels(table: Table, column: str | int) -> list[str]:
    """A column as labels: texts without blanks around them, "007" apart from "7".

    Raises:
        DataError: as `texts`, and for a cell that holds only blanks.
    """
    name = column_name(table, column)
    cells = [cell.strip() for cell in texts(table, name)]
    if "" in cells:
        hint = "fill it in or drop the row; clew does not guess"
        raise DataError("the label is empty", file=table.name, row=table.lines[cells.index("")], column=name, hint=hint)
    return cells


def as_numbers(table: Table, name: str) -> pl.Series:
    """A column as float64 with NaN where a cell is not a number: to look at, where nothing is to be refused."""
    column = table.column(name)
    if column.dtype == pl.String:
        column = column.str.strip_chars()
        if table.decimal_comma:
            column = column.str.replace(",", ".", literal=True)
    elif not column.dtype.is_numeric():
        return pl.Series(name, np.full(table.rows, np.nan))
    return column.cast(pl.Float64, strict=False).fill_null(float("nan"))


def filled(table: Table, name: str) -> list[str]:
    """The cells of a column that hold anything, as texts: to look at, where nothing is to be refused."""
    cells = table.column(name).drop_nulls().to_list()
    texts = [_written(cell) if isinstance(cell, float) else str(cell).strip() for cell in cells]
    return [text for text in texts if text]


def holds_something(table: Table, column: str | int) -> np.ndarray:
    """Which cells of a column are not empty, (T,) bool. Among numbers a word for nothing, as "NA", is no label."""
    name = column_name(table, column)
    cells = table.column(name)
    if cells.dtype == pl.String:
        nothing = EMPTY if kind(table, name) == "number" else ("",)
        cells = cells.str.strip_chars()
        return (cells.is_not_null() & ~cells.str.to_lowercase().is_in(nothing).fill_null(False)).to_numpy()
    if cells.dtype == pl.List:
        return (cells.list.len().fill_null(0) > 0).to_numpy()
    if cells.dtype.is_float():
        cells = cells.fill_nan(None)
    return cells.is_not_null().to_numpy()


def numeric(table: Table, column: str | int) -> np.ndarray:
    """A column, by name or by number from 1, as float64 (T,).

    Raises:
        DataError: no such column, or a cell that is empty, not a number or not finite.
    """
    name = column_name(table, column)
    if table.schema[name].is_nested():
        hint = "choose another --target or --input"
        raise DataError("holds lists, where one number a row is meant", file=table.name, column=name, hint=hint)
    values = as_numbers(table, name).to_numpy()
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        cell = table.column(name)[int(bad[0])]
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
    column, names = str(column), table.columns
    if column in names:
        return column
    if column.isdecimal() and 1 <= int(column) <= len(names):
        return names[int(column) - 1]
    raise DataError(f"no column '{column}'", file=table.name, hint=did_you_mean(column, names))


def numeric_columns(table: Table) -> list[str]:
    """The columns in which most cells are numbers. A cell that is none is a mistake to be named when it is read."""
    found = []
    for name in table.columns:
        dtype = table.schema[name]
        if (dtype == pl.String or dtype.is_numeric()) and as_numbers(table, name).is_not_nan().sum() > table.rows / 2:
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
    values = [name for name in names if not is_time_like(as_numbers(table, name).to_numpy(), name)]
    return (values or names)[-1]


def is_time_like(values: np.ndarray, name: str = "") -> bool:
    """Whether a column rises by a constant step (a row number, a decimal year, a time stamp) or is called so."""
    if name.strip().lower() in TIMES:
        return True
    steps = np.diff(values)
    if len(steps) < 2 or not np.isfinite(steps).all():
        return False
    return bool(steps[0] > 0 and np.allclose(steps, steps.mean(), rtol=1e-3))


def _written(number: float) -> str:
    """A number as a text: whole ones without a point."""
    return str(int(number)) if abs(number) < EXACT and number == int(number) else repr(number)


def _hint_for(cell: str) -> str:
    if "," in cell:
        return "write numbers with a point and without separators: 1234.5"
    return "correct the cell, or choose another --target or --input"


def is_calendar(table: Table, names: Sequence[str]) -> bool:
    """Whether the texts are times or dates: different in each row, and mostly digits."""
    for name in names:
        cells = filled(table, name)[:200]
        digits = sum(ch.isdigit() for cell in cells for ch in cell)
        if len(set(cells)) < len(cells) or digits < sum(map(len, cells)) / 3:
            return False
    return True
