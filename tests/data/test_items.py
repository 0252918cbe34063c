"""Items with orders: what is read, and what is wrong where something is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clew.data import items
from clew.data.inputs import NumberInput
from clew.data.pair_batch import collate_pairs
from clew.data.sources import read_table
from clew.data.table import Table
from clew.errors import DataError


def table(folder: Path, *rows: dict[str, Any]) -> Table:
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_table(folder / "a.jsonl")


def records(folder: Path, *rows: dict[str, Any]) -> list[items.ItemRecord]:
    found = table(folder, *rows)
    return items.read(found, *items.find(found))


def test_points_and_numbers(tmp_path: Path) -> None:
    points = {"items": [[0, 1.5], [2, 3], [4, 5]], "order": [2, 0]}
    (record,) = records(tmp_path, points)
    assert record.items.tolist() == points["items"]
    assert record.order.tolist() == points["order"]
    assert record.order.dtype == np.int64
    assert (record.file, record.row) == (str(tmp_path / "a.jsonl"), 1)
    first, second = records(tmp_path, {"items": [3, 1.5], "order": [1, 0]}, {"items": [7], "order": []})
    assert first.items.tolist() == [[3], [1.5]]
    assert second.items.tolist() == [[7]]
    assert second.order.tolist() == []
    (nothing,) = records(tmp_path, {"items": [3], "order": []})
    assert not len(nothing.order)


def test_columns_of_any_name_are_channels(tmp_path: Path) -> None:
    found = table(tmp_path, {"x": [1, 2], "y": [3, 4], "way": [1, 0], "order": [0, 1]})
    (record,) = items.read(found, *items.find(found, ["x", "2"], "way"))
    assert record.items.tolist() == [[1, 3], [2, 4]]
    assert record.order.tolist() == [1, 0]
    with pytest.raises(DataError, match="is named as items and as order"):
        items.find(found, ["x", "way"], "way")
    with pytest.raises(DataError, match="items"):
        items.find(found)  # "items" is not there


def test_texts(tmp_path: Path) -> None:
    """Lists of texts, or a text that blanks cut into words."""
    first, second = records(tmp_path, {"items": ["a b", "c"], "order": [1, 0]}, {"items": ["d"], "order": [0]})
    assert (first.items, second.items) == (["a b", "c"], ["d"])
    (cut,) = records(tmp_path, {"items": "b a", "order": [1, 0]})
    assert cut.items == ["b", "a"]
    both = table(tmp_path, {"items": ["b", "a"], "x": [1, 2], "order": [1, 0]})
    with pytest.raises(DataError, match="texts cannot be read beside other items"):
        items.find(both, ["x", "items"])


def test_examples_are_standardised_and_count_places_from_1(tmp_path: Path) -> None:
    found = records(tmp_path, {"items": [2, 4, 6], "order": [2, 0, 1]}, {"items": [8], "order": [0]})
    source = NumberInput(["items"], "lists").fit([record.items for record in found])
    batch = collate_pairs(items.encode(found, source))
    assert batch.target.tolist() == [[3, 1, 2, 0], [1, 0, 0, 0]]
    assert batch.x[..., 0].tolist() == [[0, 3, 1, 2], [0, 1, 0, 0]]
    real = np.concatenate([batch.source[0, :, 0].numpy(), batch.source[1, :1, 0].numpy()])
    np.testing.assert_allclose([real.mean(), real.std()], [0, 1], atol=1e-6)
    assert batch.source.shape == (2, 3, 1)


GOOD = {"items": [[1, 2], [3, 4]], "order": [1, 0]}


@pytest.mark.parametrize(
    ("bad", "column", "what", "hint"),
    [
        ({"order": [0, 2]}, "order", "names item 2, and there are items 0 to 1", "counted from 0"),
        ({"order": [-1]}, "order", "names item -1", "counted from 0"),
        ({"order": [1, 0, 1]}, "order", "names item 1 twice", "at most once"),
        ({"order": [0.5]}, "order", "0.5 is no whole number", "[2, 0, 1]"),
        ({"order": [0, None]}, "order", "a place is missing", "[2, 0, 1]"),
        ({"order": None}, "order", "the order is missing", "write [] for an order of no items"),
        ({"items": []}, "items", "empty", "write numbers into it"),
        ({"items": [[1, 2, 3], [4, 5, 6]]}, "items", "different width", "as many numbers in each"),
        ({"items": [[1, None], [3, 4]]}, "items", "a value is missing", "fill it in"),
    ],
)
def test_what_is_wrong_with_a_row(tmp_path: Path, bad: dict[str, Any], column: str, what: str, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        records(tmp_path, GOOD, GOOD, {**GOOD, **bad})
    error = caught.value
    assert (error.row, error.column) == (3, column)
    assert str(error.file).endswith("a.jsonl")
    assert what in error.what
    assert hint in str(error.hint)


@pytest.mark.parametrize(
    ("bad", "column", "what"),
    [
        ({"order": ["b", "a"]}, "order", "no lists of whole numbers"),
        ({"order": 1}, "order", "no lists of whole numbers"),
        ({"items": ""}, "items", "holds no words"),
        ({"items": 3.5}, "items", "no lists of numbers"),
    ],
)
def test_what_is_wrong_with_a_column(tmp_path: Path, bad: dict[str, Any], column: str, what: str) -> None:
    with pytest.raises(DataError) as caught:
        records(tmp_path, {**GOOD, **bad})
    assert caught.value.column == column
    assert what in caught.value.what
    assert caught.value.hint


def test_a_file_of_items_of_another_width_than_was_learned_from(tmp_path: Path) -> None:
    source = NumberInput(["items"], "lists").fit([np.zeros((2, 3))])
    with pytest.raises(DataError, match="items of 2 numbers, where the others have 3"):
        items.read_items(table(tmp_path, GOOD), source)
