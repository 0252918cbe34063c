"""Whether the first row of a table names its columns, told by its cells."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import polars as pl

from clew.data.table import EMPTY

SEEN = 1000  # rows that are looked at
LONGEST = 100  # letters that a name may have
MARKS = (".", "!", "?")


def is_header(frame: pl.DataFrame, decimal_comma: bool = False) -> bool:
    """Whether the first row of a table of texts is its header. In doubt it is.

    It is one where a text stands above numbers. Else it is none where

    - all of its cells are numbers, or one is a number above numbers; but whole numbers that rise by one step among
      names are years or other names themselves ("country,1990,1991"), as are those beside an empty cell (",0");
    - a text of it comes again below, in a column whose texts come again (a category);
    - a cell of it is a sentence, as most below it are, or is longer than any name.
    """
    columns = [[str(cell).strip() for cell in column] for column in frame[:SEEN]]
    first = [column[0] for column in columns]
    numbers = [cell for cell in first if is_number(cell, decimal_comma)]
    if len(numbers) == len(first):
        return False
    above = [column[0] for column in columns if _most(is_number(cell, decimal_comma) for cell in column[1:])]
    if any(cell.lower() not in EMPTY and not is_number(cell, decimal_comma) for cell in above):
        return True
    if any(len(cell) > LONGEST for cell in first) or any(_is_category(c) or _is_sentence(c) for c in columns):
        return False
    return _are_names(numbers, "" in first) if any(cell.lower() not in EMPTY for cell in above) else True


def is_number(cell: str, decimal_comma: bool = False) -> bool:
    try:
        float(cell.replace(",", ".") if decimal_comma else cell)
    except ValueError:
        return False
    return "_" not in cell


def _are_names(numbers: list[str], beside_empty: bool) -> bool:
    """Whether numbers in a first row name columns, as years do."""
    if not all(number.isdecimal() for number in numbers):
        return False
    steps = {int(b) - int(a) for a, b in pairwise(numbers)}
    return beside_empty or (len(steps) == 1 and min(steps) > 0)


def _is_category(column: list[str]) -> bool:
    first, *below = column
    return bool(first) and not is_number(first) and first in below and len(set(below)) <= 0.75 * len(column)


def _is_sentence(column: list[str]) -> bool:
    first, *below = column
    return " " in first and first.endswith(MARKS) and _most(" " in cell and cell.endswith(MARKS) for cell in below)


def _most(found: Iterable[bool]) -> bool:
    seen = list(found)
    return sum(seen) > len(seen) / 2
