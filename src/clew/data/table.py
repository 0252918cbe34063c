"""A table, and its columns as numbers: which there are, which one is meant, and what is wrong with a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from clew.errors import DataError, did_you_mean

EMPTY = ("", "na", "n/a", "nan", "null", "none")
TIMES = ("date", "time", "datetime", "timestamp", "index", "rownames", "row", "year", "month")


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
        self._lazy = frame
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
        return pl.DataFrame([self.column(name) for name in self.columns])

    def column(self, name: str) -> pl.Series:
        """One column; read from the file at the first time. Raises DataError where the file is damaged."""
        if name not in self._found:
            try:
                self._found[name] = self._lazy.lazy().select(name).collect().to_series()
            except (Exception, pl.exceptions.PanicException) as error:
                raise DataError(
                    "cannot be read: damaged", file=self.name, column=name, hint="write it again"
                ) from error
        return self._found[name]

    def take(self, rows: np.ndarray) -> Table:
        """The rows with these indices."""
        frame, lines = self.frame[rows.tolist()], [self.lines[i] for i in rows.tolist()]
        return Table(self.name, frame, self.header, self.sha256, lines, self.decimal_comma)


def kind(table: Table, name: str) -> Kind:
    """What the cells of a column are. Texts are numbers where most of those that are not empty are."""
    dtype = table.schema[name]
    if isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner
        if isinstance(inner, pl.List | pl.Array):
            return "vectors"
        return "texts" if inner == pl.String else "numbers"
    if dtype == pl.Boolean:
        return "flags"
    if dtype.is_numeric():
        return "number"
    if dtype != pl.String:
        return "text"
    cells = table.column(name)
    filled = int((~cells.str.strip_chars().str.to_lowercase().is_in(EMPTY).fill_null(True)).sum())
    return "number" if filled and _numbers(table, name).is_not_nan().sum() > filled / 2 else "text"


def texts(table: Table, column: str | int) -> list[str]:
    """A column as texts, exactly as they stand; whole numbers without a point.

    Raises:
        DataError: no such column, one of lists, or an empty (null) cell.
    """
    name = column_name(table, column)
    cells = table.column(name)
    if isinstance(cells.dtype, pl.List | pl.Array):
        raise DataError("holds lists, where one text a row is meant", file=table.name, column=name)
    if cells.dtype == pl.Boolean:
        cells = cells.cast(pl.String)
    elif cells.dtype.is_float():
        whole = [
            None if x is None else str(int(x)) if x == x and abs(x) < 1e15 and x == int(x) else repr(x) for x in cells
        ]
        cells = pl.Series(name, whole, dtype=pl.String)
    elif cells.dtype != pl.String:
        cells = cells.cast(pl.String)
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


def tokens(table: Table, column: str | int) -> list[list[str]]:
    """A column of lists of texts, or of texts that blanks cut into words.

    Raises:
        DataError: no such column, or a cell without a word.
    """
    name = column_name(table, column)
    found = table.column(name).to_list() if kind(table, name) == "texts" else [t.split() for t in texts(table, name)]
    for row, words in zip(table.lines, found, strict=True):
        if not words or None in words:
            hint = "drop the row, or write words into it"
            raise DataError("holds no words", file=table.name, row=row, column=name, hint=hint)
    return found


def sequences(table: Table, columns: Sequence[str]) -> list[np.ndarray]:
    """Columns of lists of numbers as channels, or one column of lists of steps: a row is a sequence (T, C), float64.

    Raises:
        DataError: a cell that is empty or holds what is no number, channels or steps that do not fit each other.
    """
    names = [column_name(table, column) for column in columns]
    if any(kind(table, name) not in ("numbers", "vectors") for name in names):
        raise DataError("holds no lists of numbers", file=table.name, column=names[0])
    cells = [table.column(name).to_list() for name in names]
    found = []
    for i, row in enumerate(table.lines):
        parts = []
        for name, column in zip(names, cells, strict=True):
            try:
                part = np.array(column[i], dtype=np.float64)
            except (TypeError, ValueError) as error:
                what = "steps of different width, or what is no number"
                raise DataError(what, file=table.name, row=row, column=name) from error
            if not part.size or not np.isfinite(part).all():
                what = "a value is missing" if part.size else "the list is empty"
                hint = "fill it in or drop the row; clew does not guess"
                raise DataError(what, file=table.name, row=row, column=name, hint=hint)
            parts.append(part if part.ndim == 2 else part[:, None])
        if len({len(part) for part in parts}) > 1:
            what = f"lists of {' and '.join(str(len(part)) for part in parts)} steps"
            raise DataError(what, file=table.name, row=row, column=names[0], hint="each channel needs every step")
        found.append(np.concatenate(parts, 1))
        if found[i].shape[1] != found[0].shape[1]:
            what = f"steps of {found[i].shape[1]} numbers, where the first row has {found[0].shape[1]}"
            raise DataError(what, file=table.name, row=row, column=names[0])
    return found


def numeric(table: Table, column: str | int) -> np.ndarray:
    """A column, by name or by number from 1, as float64 (T,).

    Raises:
        DataError: no such column, or a cell that is empty, not a number or not finite.
    """
    name = column_name(table, column)
    values = _numbers(table, name).to_numpy()
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
        if table.schema[name] != pl.Boolean and _numbers(table, name).is_not_nan().sum() > table.rows / 2:
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
    column = table.column(name)
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
