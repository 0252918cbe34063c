"""Delimited text: bytes to header, rows of cells, and the line of the file on which each row begins."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

from clew.errors import DataError

ENOUGH = 1 << 16  # letters that are looked at to find the separator


@dataclass(frozen=True)
class Cells:
    """The cells of a text. Without a header the columns are named "1", "2", ..."""

    names: list[str]
    rows: list[list[str]]
    lines: list[int]
    header: bool
    decimal_comma: bool


def parse(name: str, content: bytes, separators: str) -> Cells:
    """Cut a text into cells.

    Args:
        name: what errors call the file.
        separators: those that are possible, the likeliest last.

    Raises:
        DataError: no UTF-8 text, nothing in it, a ragged row, an open quote, a column named twice.
    """
    text = _decoded(name, content)
    if not text.strip():
        raise DataError("is empty", file=name, hint="a table needs a header and rows, or rows of numbers")
    separator = _separator(text[:ENOUGH], separators)
    rows, lines = _rows(name, text, separator)
    header = not all(_is_number(cell, separator) for cell in rows[0])
    names = [cell.strip() for cell in rows[0]] if header else [str(i + 1) for i in range(len(rows[0]))]
    if header:
        for i, column in enumerate(names):
            if column in names[:i]:
                what = f"the header names '{column}' twice"
                raise DataError(what, file=name, row=lines[0], column=column, hint="rename one of the columns")
        rows, lines = rows[1:], lines[1:]
    if not rows:
        raise DataError("holds a header and no rows", file=name, hint="add the measurements below it")
    return Cells(names, rows, lines, header, separator == ";")


def _decoded(name: str, content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError("is UTF-16 text", file=name, hint="save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"is not UTF-8 text: byte {error.start} is 0x{content[error.start]:02x}; it looks like Latin-1",
            file=name,
            row=content[: error.start].count(b"\n") + 1,
            hint="save it as UTF-8, or convert it: iconv -f latin1 -t utf-8 OLD > NEW",
        ) from error
    if "\0" in text:
        row = text[: text.index("\0")].count("\n") + 1
        raise DataError("holds a zero byte, so it is no text", file=name, row=row, hint="save it as UTF-8 text")
    return text


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
