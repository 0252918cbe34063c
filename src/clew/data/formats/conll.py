"""CoNLL and CoNLL-U: a token a line, a blank line behind each sentence; a row of the table is a sentence, each of its
columns the list of that column's cells.
"""

from __future__ import annotations

import polars as pl

from clew.data.formats.plain import decoded
from clew.errors import DataError

CONLLU = ["id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"]  # universaldependencies.org


def parse(name: str, content: bytes) -> tuple[pl.DataFrame, list[int]]:
    """Columns "1", "2", ..., parted by tabs, or by blanks where the file holds no tab.

    Raises:
        DataError: a token with another number of columns than the first, or an empty one.
    """
    text = decoded(name, content)
    separator = "\t" if "\t" in text else None
    return _sentences(name, text, separator, None)


def parse_conllu(name: str, content: bytes) -> tuple[pl.DataFrame, list[int]]:
    """The ten columns of CoNLL-U; comments, multi-word tokens (1-2) and empty nodes (1.1) are passed over.

    Raises:
        DataError: a token that has not ten columns.
    """
    return _sentences(name, decoded(name, content), "\t", CONLLU)


def _sentences(name: str, text: str, separator: str | None, names: list[str] | None) -> tuple[pl.DataFrame, list[int]]:
    sentences: list[list[list[str]]] = [[]]
    lines: list[int] = []
    width = len(names) if names else 0
    for line, row in enumerate(text.split("\n"), 1):
        row = row.rstrip("\r")
        if not row.strip():
            if sentences[-1]:
                sentences.append([])
            continue
        if (names and row.startswith("#")) or row.startswith("-DOCSTART-"):
            continue
        cells = row.split(separator) if separator else row.split()
        width = width or len(cells)
        if len(cells) != width:
            where = "CoNLL-U has ten" if names else f"the first token has {width}"
            hint = "part the columns by tabs, one token a line, a blank line behind each sentence"
            raise DataError(f"{_columns(len(cells))}, where {where}", file=name, row=line, hint=hint)
        if names and not cells[0].isdecimal():
            if not cells[0].replace("-", "").replace(".", "").isdecimal():
                raise DataError(f"'{cells[0][:20]}' is no token's number", file=name, row=line, column="id")
            continue
        if not all(cell.strip() for cell in cells):
            raise DataError("an empty cell", file=name, row=line, hint="write _ where there is nothing to say")
        if not sentences[-1]:
            lines.append(line)
        sentences[-1].append(cells)
    if not lines:
        raise DataError("holds no token", file=name, hint="one token a line, with its tag behind a tab")
    names = names or [str(i + 1) for i in range(width)]
    columns = {
        column: [[cells[i] for cells in sentence] for sentence in sentences if sentence]
        for i, column in enumerate(names)
    }
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.List(pl.String))), lines


def _columns(n: int) -> str:
    return "1 column" if n == 1 else f"{n} columns"
