"""Delimited text: bytes to header, cells, and the line of the file on which each row begins.

What is plain (no quotes, no blank lines, as many separators in every line) is cut by polars, many times faster; all
else, and everything that is wrong, by the careful way, whose errors say where.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from clew.data.formats.header import is_header, is_number
from clew.data.formats.plain import checked
from clew.errors import DataError

ENOUGH = 1 << 16  # bytes that are looked at to find the separator
CHUNK = 1 << 18  # cells that are held as Python texts at once
csv.field_size_limit(1 << 30)  # a cell may hold a whole text; the limit is the process's, its default 131,072 letters


@dataclass(frozen=True)
class Cells:
    """The cells of a text as columns of text. Without a header the columns are named "1", "2", ..."""

    frame: pl.DataFrame
    lines: Sequence[int]
    header: bool
    decimal_comma: bool


def parse(name: str, content: bytes, separators: str, header: bool | None = None) -> Cells:
    """Cut a text into cells.

    Args:
        name: what errors call the file.
        separators: those that are possible, the likeliest last.
        header: whether the first row names the columns; None to tell by its cells (see `header.is_header`).

    Raises:
        DataError: no UTF-8 text, nothing in it, a ragged row, an open quote, a column named twice.
    """
    content = checked(name, content)
    separator = _separator(content[:ENOUGH].decode(errors="ignore"), separators)
    named = None
    if header is not False and _has_row_numbers(content, separator):
        named = _without_row_numbers(name, content, separator)
    frame, lines = named or _plainly(content, separator) or _carefully(name, content, separator)
    if not lines:
        raise DataError("is empty", file=name, hint="a table needs a header and rows, or rows of numbers")
    first = [str(cell) for cell in frame.row(0)]
    if header is None:
        header = is_header(frame, separator == ";")
    if named and not header:  # then the first row is one of numbers, and too short
        raise _ragged(name, lines[1], frame.width + 1, frame.width)
    names = [cell.strip() for cell in first] if header else [str(i + 1) for i in range(len(first))]
    if header:
        seen: set[str] = set()
        for column in names:
            if column in seen:
                what = f"the header names '{column}' twice"
                hint = "rename one of the columns"
                if is_number(column):
                    hint += "; if the file has no header, say so"
                raise DataError(what, file=name, row=lines[0], column=column, hint=hint)
            seen.add(column)
        frame, lines = frame[1:], lines[1:]
    if not frame.height:
        raise DataError("holds a header and no rows", file=name, hint="add the measurements below it")
    frame.columns = names
    return Cells(frame, lines, header, separator == ";")


def _has_row_numbers(content: bytes, separator: str) -> bool:
    """Whether the rows begin with a number for which the first row has no name, as R writes tables."""
    rows = csv.reader(io.StringIO(content[:ENOUGH].decode(errors="ignore")), delimiter=separator)
    try:
        first, second = next(rows, []), next(rows, [])
    except csv.Error:
        return False
    return len(second) == len(first) + 1 > 2 and second[0].strip().isdigit()


def _without_row_numbers(name: str, content: bytes, separator: str) -> tuple[pl.DataFrame, Sequence[int]] | None:
    """The cells without the first of each row, or None where those are not all different numbers."""
    content = separator.encode() + content
    try:
        frame, lines = _plainly(content, separator) or _carefully(name, content, separator)
    except DataError:  # said of the text as it stands
        return None
    numbers = frame[1:, 0].str.strip_chars()
    if not numbers.str.contains(r"^\d+$").all() or not numbers.is_unique().all():
        return None
    return frame[:, 1:], lines


def _ragged(name: str, line: int, cells: int, width: int) -> DataError:
    hint = "a cell that holds the separator must stand in double quotes"
    return DataError(f"{cells} cells, where the first row has {width}", file=name, row=line, hint=hint)


def _plainly(content: bytes, separator: str) -> tuple[pl.DataFrame, Sequence[int]] | None:
    """The cells of a text in which nothing needs care, or None."""
    if b'"' in content:
        return None
    if b"\r" in content:
        if content.count(b"\r") != content.count(b"\r\n"):
            return None
        content = content.replace(b"\r\n", b"\n")
    content = content.rstrip(b"\n")
    first, mark = content.partition(b"\n")[0], separator.encode()
    width, rows = first.count(mark) + 1, content.count(b"\n") + 1
    # polars fills a short row up, and drops an empty cell too many
    if not first.strip() or b"\n\n" in content or not _is_even(content, mark, width, rows):
        return None
    try:
        frame = pl.read_csv(
            content,
            has_header=False,
            separator=separator,
            quote_char=None,
            infer_schema=False,
            new_columns=[str(i) for i in range(width)],
        ).fill_null("")
    except (Exception, pl.exceptions.PanicException):
        return None
    if frame.shape != (rows, width) or (width == 1 and (frame["0"].str.strip_chars() == "").any()):
        return None
    return frame, range(1, rows + 1)


def _is_even(content: bytes, separator: bytes, width: int, rows: int) -> bool:
    """Whether each row has as many separators as the first."""
    if content.count(separator) != (width - 1) * rows:
        return False
    if width == 1:
        return True
    letters = np.frombuffer(content, dtype=np.uint8)
    at = np.flatnonzero(letters == separator[0]).reshape(rows, width - 1)
    ends = np.flatnonzero(letters == ord("\n"))
    return bool((at[1:, 0] > ends).all() and (at[:-1, -1] < ends).all())


def _carefully(name: str, content: bytes, separator: str) -> tuple[pl.DataFrame, list[int]]:
    """Quotes mean something; but where they do not come in pairs, a text parted by tabs holds them as letters."""
    try:
        return _columns(name, content, separator, csv.QUOTE_MINIMAL)
    except DataError as error:
        if separator != "\t" or b'"' not in content:
            raise
        try:
            return _columns(name, content, separator, csv.QUOTE_NONE)
        except DataError:
            raise error from None


def _columns(name: str, content: bytes, separator: str, quoting: int) -> tuple[pl.DataFrame, list[int]]:
    frames: list[pl.DataFrame] = []
    lines: list[int] = []
    flat: list[str] = []  # a list a row would keep the garbage collector busy
    width = 1
    for line, cells in _rows(name, content, separator, quoting):
        width = len(cells)
        flat.extend(cells)
        lines.append(line)
        if len(flat) >= CHUNK:
            frames.append(_frame(flat, width))
            flat.clear()
    return pl.concat([*frames, _frame(flat, width)]), lines


def _frame(flat: list[str], width: int) -> pl.DataFrame:
    return pl.DataFrame({str(i): pl.Series(flat[i::width], dtype=pl.String) for i in range(width)})


def _rows(name: str, content: bytes, separator: str, quoting: int) -> Iterator[tuple[int, list[str]]]:
    """The line on which each row begins, and its cells.

    Blank lines are passed over, but for those between the rows of a single column: there one is an empty cell, and
    leaving it out would move the time of all that follow.
    """
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")
    reader = csv.reader(text, delimiter=separator, strict=True, quoting=quoting)  # pyright: ignore[reportArgumentType]
    blank: list[int] = []
    width, line = 0, 1
    try:
        for cells in reader:
            if len(cells) < 2 and not "".join(cells).strip():
                blank.append(line)
            else:
                if width == 1:
                    yield from ((gap, [""]) for gap in blank)
                blank.clear()
                width = width or len(cells)
                if len(cells) != width:
                    raise _ragged(name, line, len(cells), width)
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"cannot be parsed: {error}", file=name, row=line, hint="look for an open quote") from error


def _separator(text: str, separators: str) -> str:
    """The one of which most lines hold as many as the first line does; quoted cells may hold any of them."""
    lines = [line for line in re.sub(r'"[^"]*"', "", text).splitlines() if line.strip()]
    best, agreeing = separators[-1], 0
    for separator in separators:
        count = lines[0].count(separator) if lines else 0
        agree = sum(line.count(separator) == count for line in lines) if count else 0
        if agree > agreeing:  # at a tie the one that comes first: "1,5;2,5" is parted by its semicolon
            best, agreeing = separator, agree
    return best
