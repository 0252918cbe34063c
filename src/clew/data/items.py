"""Items and an order of them: what is pointed at, and in which order.

A record a row, as JSON lines have them: {"items": [[x, y], ...], "order": [2, 0, ...]}. Items are lists of numbers,
numbers, or texts; an order names items by their place, counted from 0, each at most once, and perhaps none.

S items, I numbers an item, N places of an order
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from clew.data.inputs import Input, NumberInput, Raw, TextInput
from clew.data.pair_batch import PairExample
from clew.data.table import Table, column_name, kind
from clew.errors import DataError

ITEMS, ORDER = "items", "order"  # what the columns are called where nobody says


class ItemRecord(NamedTuple):
    """Items, (S, I) numbers or S texts, an order of them (N,), and where both stand."""

    items: Raw
    order: np.ndarray
    file: str
    row: int


def find(table: Table, inputs: Sequence[str] = (), target: str = "") -> tuple[Input, str]:
    """What the columns of items are, not yet fitted, and the column of their order; by name or number from 1.

    Raises:
        DataError: no such column, one for both, or several columns of which one holds texts.
    """
    names = [column_name(table, name) for name in (inputs or [ITEMS])]
    order = column_name(table, target or ORDER)
    if order in names:
        raise DataError("is named as items and as order", file=table.name, column=order, hint="name two columns")
    for name in names:
        if kind(table, name) in ("text", "texts"):
            if len(names) > 1:
                hint = "name one column as --input"
                raise DataError("texts cannot be read beside other items", file=table.name, column=name, hint=hint)
            return TextInput(name, cut=True), order
    return NumberInput(names, "lists"), order


def read(table: Table, source: Input, order: str) -> list[ItemRecord]:
    """The records of a table.

    Raises:
        DataError: see `read_items` and `read_orders`.
    """
    items = read_items(table, source)
    orders = read_orders(table, order, [len(each) for each in items])
    rows = zip(items, orders, table.lines, strict=True)
    return [ItemRecord(each, known, table.name, row) for each, known, row in rows]


def read_items(table: Table, source: Input) -> list[Raw]:
    """The items of each row; of several columns of numbers, one of each makes an item.

    Raises:
        DataError: a row without items, items of different width, or what is no finite number.
    """
    found = source.read(table)
    if isinstance(source, TextInput):
        return found
    width = source.channels or (found[0].shape[1] if found else 0)
    for items, row in zip(found, table.lines, strict=True):
        if items.shape[1] != width:
            what = f"items of {items.shape[1]} numbers, where the others have {width}"
            hint = "write as many numbers in each item of each row and each file"
            raise DataError(what, file=table.name, row=row, column=source.columns[0], hint=hint)
    return found


def read_orders(table: Table, column: str, sizes: Sequence[int]) -> list[np.ndarray]:
    """The order (N,) of each row, int64.

    Args:
        sizes: items of each row.

    Raises:
        DataError: an order that is missing, holds what is no whole number, names an item that is not there, or one
            twice.
    """
    name = column_name(table, column)
    cells = table.column(name).to_list()
    empty = not any(cells)  # nothing says of what kind an empty list is
    if kind(table, name) != "numbers" and not (empty and kind(table, name) == "texts"):
        hint = "write the items' places, counted from 0: [2, 0, 1]"
        raise DataError("holds no lists of whole numbers", file=table.name, column=name, hint=hint)
    return [
        _order(order, size, table.name, row, name) for order, size, row in zip(cells, sizes, table.lines, strict=True)
    ]


def encode(records: Iterable[ItemRecord], source: Input) -> list[PairExample]:
    """Examples of encoded items, whose targets are places: 0 is the end, item i is i + 1."""
    return [PairExample(source.encode(record.items), record.order + 1) for record in records]


def _order(order: list[float | None] | None, size: int, file: str, row: int, column: str) -> np.ndarray:
    def refuse(what: str, hint: str) -> DataError:
        return DataError(what, file=file, row=row, column=column, hint=hint)

    if order is None:
        raise refuse("the order is missing", "write [] for an order of no items, or drop the row")
    seen: set[float] = set()
    for place in order:
        if place is None or place != int(place):
            what = "a place is missing" if place is None else f"{place:g} is no whole number"
            raise refuse(what, "an order holds the items' places, counted from 0: [2, 0, 1]")
        if not 0 <= place < size:
            what = f"names item {place:.0f}, and there are items 0 to {size - 1}"
            raise refuse(what, "items are counted from 0")
        if place in seen:
            raise refuse(f"names item {place:.0f} twice", "name each item at most once; a way back is not written out")
        seen.add(place)
    return np.array(order, dtype=np.int64)
