"""CoNLL and CoNLL-U: a token a line, a blank line behind each sentence; a row of the table is a sentence, each of its
columns the list of that column's cells.
"""

from __future__ import annotations

import io
import re

import numpy as np
import polars as pl

from clew.data.formats.plain import checked
from clew.errors import DataError

CONLLU = ["id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"]  # universaldependencies.org
WIDEST = 1000  # columns that a token may have


def parse(name: str, content: bytes) -> tuple[pl.DataFrame, list[int]]:
    """Columns "1", "2", ..., parted by tabs, or by blanks where the file holds no tab.

    Raises:
        DataError: a token with another number of columns than the first, or an empty one.
    """
    content = checked(name, content)
    return _sentences(name, content, "\t" if b"\t" in content else None, None)


def parse_conllu(name: str, content: bytes) -> tuple[pl.DataFrame, list[int]]:
    """The ten columns of CoNLL-U; comments, multi-word tokens (1-2) and empty nodes (1.1) are passed over.

    Raises:
        DataError: a token that has not ten columns.
    """
    return _sentences(name, checked(name, content), "\t", CONLLU)


def _sentences(
    name: str, content: bytes, separator: str | None, names: list[str] | None
) -> tuple[pl.DataFrame, list[int]]:
    flat: list[str] = []  # a list a token would keep the garbage collector busy
    starts: list[int] = []
    lines: list[int] = []
    width = len(names) if names else 0
    inside = False
    for line, raw in enumerate(io.BytesIO(content), 1):
        row = raw.decode().rstrip("\r\n")
        if not row or row.isspace():
            inside = False
            continue
        if (names and row.startswith("#")) or row.startswith("-DOCSTART-"):
            continue
        cells = row.split(separator) if separator else re.split(" +", row.strip(" "))
        if len(cells) != width:
            if width:
                where = "CoNLL-U has ten" if names else f"the first token has {width}"
                hint = "part the columns by tabs, one token a line, a blank line behind each sentence"
                raise DataError(f"{_columns(len(cells))}, where {where}", file=name, row=line, hint=hint)
            width = len(cells)
            if width > WIDEST:
                hint = "one token a line; plain text is read from a .txt file"
                raise DataError(f"{width} columns, so it is no token", file=name, row=line, hint=hint)
        if names and not cells[0].isdecimal():
            if not re.fullmatch(r"\d+[-.]\d+", cells[0]):
                what, hint = f"'{cells[0][:20]}' is no token's number", "number the tokens of a sentence from 1"
                raise DataError(what, file=name, row=line, column="id", hint=hint)
            continue
        if "" in cells or any(map(str.isspace, cells)):
            raise DataError("an empty cell", file=name, row=line, hint="write _ where there is nothing to say")
        if not inside:
            inside = True
            lines.append(line)
            starts.append(len(flat) // width)
        flat.extend(cells)
    if not lines:
        raise DataError("holds no token", file=name, hint="one token a line, with its tag behind a tab")
    names = names or [str(i + 1) for i in range(width)]
    lengths = np.diff(np.array([*starts, len(flat) // width]))
    table = pl.DataFrame({column: pl.Series(flat[i::width], dtype=pl.String) for i, column in enumerate(names)})
    sentence = pl.Series(np.repeat(np.arange(len(lines)), lengths))
    return table.group_by(sentence, maintain_order=True).agg(pl.all()).select(names), lines


def _columns(n: int) -> str:
    return "1 column" if n == 1 else f"{n} columns"
