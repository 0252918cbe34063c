"""Tables from files: CSV, TSV (also .gz), Parquet, and the samples that ship with the package.

Cells of text files stay text until a column is asked for as numbers, so that a bad one can be named by file, row and
column. Rows are counted as an editor counts lines, the header included.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import polars as pl

from clew.errors import DataError, did_you_mean

SEPARATORS = {".csv": ",;\t", ".tsv": "\t"}


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


def samples() -> list[str]:
    """The names that `sample:NAME` knows."""
    return sorted(
        entry.name.removesuffix(".csv")
        for entry in (resources.files("clew.data") / "samples").iterdir()
        if entry.name.endswith(".csv")
    )


def read_table(source: str | Path) -> Table:
    """Read a file or `sample:NAME`.

    Raises:
        DataError: no such file or sample, another format, an empty or damaged file, a ragged row.
    """
    name = str(source)
    if name.startswith("sample:"):
        sample = name.removeprefix("sample:")
        if sample not in samples():
            raise DataError(f"no sample '{sample}'", hint=did_you_mean(sample, samples()))
        content = (resources.files("clew.data") / "samples" / f"{sample}.csv").read_bytes()
        return _text_table(name, content, content, ",")
    path = Path(source)
    if not path.exists():
        near = difflib.get_close_matches(path.name, _neighbours(path), n=1)
        raise DataError("no such file", file=name, hint=f"did you mean '{path.with_name(near[0])}'?" if near else None)
    if path.is_dir():
        raise DataError("is a folder", file=name, hint="name the files in it")
    suffix = Path(path.stem).suffix.lower() if path.suffix == ".gz" else path.suffix.lower()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=name) from error
    if suffix == ".parquet":
        return _parquet(name, content)
    if suffix not in SEPARATORS:
        raise DataError(
            f"unknown kind of file '{path.suffix}'", file=name, hint="known: .csv, .tsv (also .gz), .parquet"
        )
    return _text_table(name, content, _unzipped(name, content, path.suffix == ".gz"), SEPARATORS[suffix])


def numeric(table: Table, column: str) -> np.ndarray:
    """A column, by name or by number from 1, as float64 (T,).

    Raises:
        DataError: no such column, or a cell that is empty, not a number or not finite.
    """
    name = column_name(table, column)
    values = _numbers(table, name).to_numpy()
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        cell = table.frame[name][int(bad[0])]
        empty = cell is None or str(cell).strip().lower() in ("", "na", "nan", "null", "none")
        what = "the cell is empty" if empty else f"'{str(cell)[:40]}' is not a number that can be learned from"
        hint = "fill it in or drop the row; clew does not guess" if empty else _hint_for(str(cell))
        raise DataError(what, file=table.name, row=table.lines[int(bad[0])], column=name, hint=hint)
    return values


def column_name(table: Table, column: str) -> str:
    """The name of a column given by name, or by number from 1.

    Raises:
        DataError: there is none.
    """
    names = table.frame.columns
    if column in names:
        return column
    if column.isdigit() and 1 <= int(column) <= len(names):
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
    values = [name for name in names if not is_time_like(_numbers(table, name).to_numpy())]
    return (values or names)[-1]


def is_time_like(values: np.ndarray) -> bool:
    """Whether a column rises by a constant step: a row number, a decimal year, a time stamp."""
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


def _parquet(name: str, content: bytes) -> Table:
    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except Exception as error:  # polars raises its own kinds, and OSError's, for damaged files
        raise DataError("is not a whole Parquet file", file=name, hint="write it again") from error
    if not frame.height:
        raise DataError("holds no rows", file=name)
    return Table(name, frame, True, hashlib.sha256(content).hexdigest(), range(1, frame.height + 1))


def _unzipped(name: str, content: bytes, zipped: bool) -> bytes:
    if not zipped:
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("is not a whole .gz file", file=name, hint="copy it again") from error


def _text_table(name: str, raw: bytes, content: bytes, separators: str) -> Table:
    text = _decoded(name, content)
    if not text.strip():
        raise DataError("is empty", file=name, hint="a table needs a header and rows, or rows of numbers")
    first = text.lstrip("\r\n").splitlines()[0]
    separator = max(separators, key=lambda s: (first.count(s), -separators.index(s)))
    rows, lines = _rows(name, text, separator)
    header = not all(_is_number(cell, separator) for cell in rows[0])
    names = [cell.strip() for cell in rows[0]] if header else [str(i + 1) for i in range(len(rows[0]))]
    if header:
        _check_names(name, names, lines[0])
        rows, lines = rows[1:], lines[1:]
    if not rows:
        raise DataError("holds a header and no rows", file=name, hint="add the measurements below it")
    frame = pl.DataFrame(
        {n: [row[i] for row in rows] for i, n in enumerate(names)}, schema=dict.fromkeys(names, pl.String)
    )
    return Table(name, frame, header, hashlib.sha256(raw).hexdigest(), lines, separator == ";")


def _decoded(name: str, content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError("is UTF-16 text", file=name, hint="save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n") + 1
        byte = content[error.start]
        raise DataError(
            f"is not UTF-8 text (byte 0x{byte:02x})",
            file=name,
            row=row,
            hint=f"save it as UTF-8, or convert it: iconv -f latin1 -t utf-8 {name}",
        ) from error


def _rows(name: str, text: str, separator: str) -> tuple[list[list[str]], list[int]]:
    """The cells, and the line on which each row begins. Blank lines are passed over."""
    if "\0" in text:
        raise DataError("holds a zero byte, so it is no text", file=name, row=text[: text.index("\0")].count("\n") + 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    line = 1
    try:
        for cells in reader:
            if cells and (len(cells) > 1 or cells[0].strip()):
                if rows and len(cells) != len(rows[0]):
                    raise DataError(
                        f"{len(cells)} cells, where the first row has {len(rows[0])}",
                        file=name,
                        row=line,
                        hint="a cell that holds the separator must stand in double quotes",
                    )
                rows.append(cells)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"cannot be parsed: {error}", file=name, row=line, hint="look for an open quote") from error
    return rows, lines


def _check_names(name: str, names: list[str], row: int) -> None:
    for i, column in enumerate(names):
        if column in names[:i]:
            raise DataError(f"the header names '{column}' twice", file=name, row=row, hint="rename one of the columns")


def _is_number(cell: str, separator: str) -> bool:
    try:
        float(cell.replace(",", ".") if separator == ";" else cell)
    except ValueError:
        return False
    return True


def _neighbours(path: Path) -> list[str]:
    return [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
