"""Delimited text: bytes to header, cells, and the line of the file on which each row begins.

What is plain (no quotes, no blank lines, as many separators in every line) is cut by polars, many times faster; all
else, and everything that is wrong, by the careful way, whose errors say where.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from clew.data.formats.plain import decoded
from clew.errors import DataError

ENOUGH = 1 << 16  # letters that are looked at to find the separator
SEEN = 1000  # rows that are looked at to tell a header
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
        header: whether the first row names the columns; None to tell by its cells. It does not where all of them are
            numbers, or where a text in it comes again below.

    Raises:
        DataError: no UTF-8 text, nothing in it, a ragged row, an open quote, a column named twice.
    """
    text = decoded(name, content)
    if not text.strip():
        raise DataError("is empty", file=name, hint="a table needs a header and rows, or rows of numbers")
    separator = _separator(text[:ENOUGH], separators)
    frame, lines = _plainly(text, separator) or _carefully(name, text, separator)
    first = [str(cell) for cell in frame.row(0)]
    if header is None:
        header = not all(_is_number(cell, separator) for cell in first) and not _comes_again(frame, first)
    names = [cell.strip() for cell in first] if header else [str(i + 1) for i in range(len(first))]
    if header:
        for i, column in enumerate(names):
            if column in names[:i]:
                what = f"the header names '{column}' twice"
                raise DataError(what, file=name, row=lines[0], column=column, hint="rename one of the columns")
        frame, lines = frame[1:], lines[1:]
    if not frame.height:
        raise DataError("holds a header and no rows", file=name, hint="add the measurements below it")
    frame.columns = names
    return Cells(frame, lines, header, separator == ";")


def _plainly(text: str, separator: str) -> tuple[pl.DataFrame, Sequence[int]] | None:
    """The cells of a text in which nothing needs care, or None."""
    body = text.removesuffix("\n")
    width = body.partition("\n")[0].count(separator) + 1
    rows = body.count("\n") + 1
    if width < 2 or '"' in body or "\r" in body or "\n\n" in body or body.startswith("\n"):
        return None
    if body.count(separator) != (width - 1) * rows:
        return None
    try:
        frame = pl.read_csv(
            body.encode(),
            has_header=False,
            separator=separator,
            quote_char=None,
            infer_schema=False,
            new_columns=[str(i) for i in range(width)],
        ).fill_null("")
    except (Exception, pl.exceptions.PanicException):
        return None
    return (frame, range(1, rows + 1)) if frame.shape == (rows, width) else None


def _carefully(name: str, text: str, separator: str) -> tuple[pl.DataFrame, list[int]]:
    rows, lines = _rows(name, text, separator)
    columns = {str(i): [row[i] for row in rows] for i in range(len(rows[0]))}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)), lines


def _comes_again(frame: pl.DataFrame, first: list[str]) -> bool:
    """Whether a text of the first row stands again below, as a category does and a name does not."""
    below = frame[1:SEEN]
    return any(
        bool(cell.strip()) and not _is_number(cell, "") and bool((column == cell).any())
        for cell, column in zip(first, below, strict=True)
    )


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


def _rows(name: str, text: str, separator: str) -> tuple[list[list[str]], list[int]]:
    """The cells, and the line on which each row begins.

    Blank lines are passed over, but for those between the rows of a single column: there one is an empty cell, and
    leaving it out would move the time of all that follow.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    blank: list[int] = []
    line = 1
    try:
        for cells in reader:
            if len(cells) < 2 and not "".join(cells).strip():
                blank.append(line)
            else:
                if rows and len(rows[0]) == 1:
                    rows.extend([""] for _ in blank)
                    lines.extend(blank)
                blank.clear()
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


def _is_number(cell: str, separator: str) -> bool:
    try:
        float(cell.replace(",", ".") if separator == ";" else cell)
    except ValueError:
        return False
    return True
