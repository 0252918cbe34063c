"""Columns of lists: words, numbers, steps and sets of them, and what is wrong with one.

T steps, C channels, N elements, D numbers of an element
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from clew.data.table import Table, column_name, kind, texts
from clew.errors import DataError


def tokens(table: Table, column: str | int, letters: bool = False) -> list[list[str]]:
    """A column of lists of texts, or of texts that blanks cut into words; with `letters` each letter of one without
    blanks is a word.

    Raises:
        DataError: no such column, or a cell without a word.
    """
    name = column_name(table, column)
    if kind(table, name) == "texts":
        found = table.column(name).to_list()
    else:
        found = [text.split() for text in texts(table, name)]
        found = [spelled(words) for words in found] if letters else found
    for row, words in zip(table.lines, found, strict=True):
        if letters and any(len(word) > 1 for word in words or () if word):
            hint = "write one word a row, or set data.source_unit = word"
            raise DataError("holds words, where letters are meant", file=table.name, row=row, column=name, hint=hint)
        if not words or None in words:
            hint = "drop the row, or write words into it"
            raise DataError("holds no words", file=table.name, row=row, column=name, hint=hint)
    return found


def spelled(words: list[str]) -> list[str]:
    """The letters of one word; what is parted already stays."""
    return list(words[0]) if len(words) == 1 else words


def sequences(table: Table, columns: Sequence[str]) -> list[np.ndarray]:
    """Columns of lists of numbers as channels, or one column of lists of steps: a row is a sequence (T, C), float64.

    Raises:
        DataError: a cell that is empty or holds what is no number, channels or steps that do not fit each other.
    """
    names = [column_name(table, column) for column in columns]
    found: list[list[np.ndarray]] = []
    for name in names:
        if kind(table, name) not in ("numbers", "vectors"):
            hint = "choose columns of lists: [1.5, 2] or [[1.5, 2], [3, 4]]"
            raise DataError("holds no lists of numbers", file=table.name, column=name, hint=hint)
        found.append(_steps(table, name))
    for row, channels in zip(table.lines, zip(*found, strict=True), strict=True):
        for name, channel in zip(names, channels, strict=True):
            if len(channel) != len(channels[0]):
                what = f"{len(channel)} steps, where '{names[0]}' has {len(channels[0])}"
                hint = "each channel of a row needs a value at each step"
                raise DataError(what, file=table.name, row=row, column=name, hint=hint)
    if len(names) == 1:
        return found[0]
    return [np.concatenate(channels, 1) for channels in zip(*found, strict=True)]


def lists_of_texts(table: Table, column: str | int) -> list[list[str]]:
    """A column of lists of texts, or of texts that blanks cut into words; a list may be empty.

    Raises:
        DataError: no such column, one of numbers, or a list that holds nothing in a place.
    """
    name = column_name(table, column)
    if kind(table, name) == "texts":
        found = table.column(name).fill_null([]).to_list()
    else:
        found = [text.split() for text in table.column(name).cast(pl.String).fill_null("").to_list()]
    for row, words in zip(table.lines, found, strict=True):
        if None in words:
            raise DataError(
                "a text is missing", file=table.name, row=row, column=name, hint="write it, or leave it out"
            )
    return found


def lists_of_keys(table: Table, column: str | int) -> list[list[list[int]]]:
    """A column of lists of steps, each a list of different whole numbers from 0, which may be empty.

    Raises:
        DataError: no such column, one of another kind, a row without steps, a number that is no key.
    """
    name = column_name(table, column)
    if kind(table, name) != "vectors":
        hint = "choose a column of lists of lists: [[60, 64, 67], [], [62]]"
        raise DataError("holds no lists of keys", file=table.name, column=name, hint=hint)
    found = []
    for row, steps in zip(table.lines, table.column(name).to_list(), strict=True):
        place = {"file": table.name, "row": row, "column": name}
        if not steps:
            raise DataError("holds no steps", **place, hint="drop the row")
        for step in steps:
            if step is None or any(not is_key(key) for key in step):
                raise DataError(f"{step} are no keys", **place, hint="write whole numbers from 0")
        found.append([sorted({int(key) for key in step}) for step in steps])
    return found


def is_key(value: object) -> bool:
    """Whether a number is whole and not under 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value >= 0 and math.isfinite(value) and value == int(value)


def lists_of_steps(table: Table, column: str | int) -> list[np.ndarray]:
    """A column of lists of numbers, or of lists of as many numbers each, as (N, D); a list may be empty, (0, D).

    Raises:
        DataError: no such column, one of another kind, a missing or infinite number, lists of different width.
    """
    name = column_name(table, column)
    if kind(table, name) not in ("numbers", "vectors"):
        hint = "choose a column of lists: [1.5, 2] or [[1.5, 2], [3, 4]]"
        raise DataError("holds no lists of numbers", file=table.name, column=name, hint=hint)
    there = np.flatnonzero(table.column(name).list.len().fill_null(0).to_numpy())
    some = _steps(table.take(there), name) if len(there) else []
    width = some[0].shape[1] if some else 1
    found = [np.zeros((0, width))] * table.rows
    for row, values in zip(there, some, strict=True):
        found[row] = values
    return found


def _steps(table: Table, name: str) -> list[np.ndarray]:
    """A column of lists of numbers, or of steps, as (T, C) each."""
    cells = table.column(name)
    lengths = cells.list.len().fill_null(0).to_numpy()

    def refuse(bad: np.ndarray, rows: np.ndarray, what: str, hint: str) -> None:
        if bad.any():
            row = table.lines[int(rows[bad.argmax()])]
            raise DataError(what, file=table.name, row=row, column=name, hint=hint)

    guess = "fill it in or drop the row; clew does not guess"
    refuse(lengths == 0, np.arange(table.rows), "the list is empty", "write numbers into it, or drop the row")
    rows = np.repeat(np.arange(table.rows), lengths)
    parts, width = cells.explode(), 1
    if isinstance(parts.dtype, pl.List):
        widths = parts.list.len().fill_null(0).to_numpy()
        width = int(widths[0])
        refuse(widths == 0, rows, "a step is empty", guess)
        what = f"steps of different width, where the first of all has {width} numbers"
        refuse(widths != width, rows, what, "write as many numbers in each step of each row")
        parts, rows = parts.explode(), np.repeat(rows, width)
    if not (parts.dtype.is_numeric() or parts.dtype in (pl.Boolean, pl.Null)):
        hint = "choose columns of lists: [1.5, 2] or [[1.5, 2], [3, 4]]"
        raise DataError("holds no lists of numbers", file=table.name, column=name, hint=hint)
    values = parts.cast(pl.Float64).fill_null(np.nan).to_numpy()
    refuse(np.isnan(values), rows, "a value is missing", guess)
    refuse(np.isinf(values), rows, "a value is infinite", "correct it or drop the row")
    return np.split(values.reshape(-1, width), np.cumsum(lengths)[:-1])
