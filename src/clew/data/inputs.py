"""What a model reads: from the cells of a table, or a line of a stream, to steps (T, I).

AudioInput     a column of sound files, as frames (see `sounds`)
TextInput      a column of texts, or of lists of words, through a vocabulary (see `text`)
NumberInput    numbers, standardised by channel or all alike: a row as one step or as a whole sequence, lists as
               channels, images, or one row a step with a column that says which sequence it belongs to (see `numbers`)

`read` gives raw records, `fit` learns from those of the training part, `encode` makes the steps of one.

T steps, I input features, C channels
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from clew.config import Data
from clew.data import vocabulary as vocabularies
from clew.data.audio import LogMel
from clew.data.images import colours_of, names_images
from clew.data.numbers import LAYOUTS, SCANS, Layout, NumberInput
from clew.data.series import Scaler
from clew.data.sounds import AudioInput, find_sounds
from clew.data.table import Table, column_name, filled, is_calendar, kind
from clew.data.text import TextInput
from clew.errors import DataError, read_back

__all__ = ["AudioInput", "Input", "NumberInput", "TextInput", "find", "from_json"]

Raw = Any  # a text, a list of words, or an array (T, C)
PIXELS = pl.List(pl.List(pl.UInt8))  # what images come as

Input = TextInput | NumberInput | AudioInput


def from_json(saved: Any, file: object) -> Input:
    """The input that `to_json` wrote. Raises RunError where the object holds none."""
    with read_back(file):
        if saved["kind"] == "text":
            known = vocabularies.from_json(saved["vocabulary"], file)
            return TextInput(str(saved["column"]), bool(saved["cut"]), known, bool(saved.get("letters", False)))
        if saved["kind"] == "audio":
            front, scaler = LogMel(**saved["front"]), Scaler.from_json(saved["scaler"])
            if len(scaler.mean) != front.mels:
                raise ValueError("as many means as mels")
            return AudioInput(str(saved["column"]), front, scaler)
        scan, image = saved.get("scan", "rows"), tuple(int(n) for n in saved.get("image", ()))  # of older runs
        if saved["kind"] != "numbers" or saved["layout"] not in LAYOUTS or scan not in SCANS:
            raise ValueError("an unknown kind of input")
        columns, scaler = [str(name) for name in saved["columns"]], Scaler.from_json(saved["scaler"])
        channels = int(saved["channels"])
        if not columns or len(scaler.mean) != channels:
            raise ValueError("as many means as channels")
        colours = int(saved.get("colours", 1))
        if colours < 1 or len(image) not in (0, 2) or min(image, default=1) < 1:
            raise ValueError("an image has a height, a width and colours")
        alike = bool(saved.get("alike", False))
        return NumberInput(columns, saved["layout"], channels, str(saved["group"]), scaler, scan, colours, image, alike)


def find(table: Table, wanted: Sequence[str], beside: Sequence[str], how: Data = Data()) -> Input:
    """The input that the wanted columns make, or, where none is named, those that are there.

    Args:
        beside: columns that it may not be: the target, the group.
        how: the recipe's `data`: channels, group, mels, scan, image, scale.

    Raises:
        DataError: no such column, none that can be read, or kinds that do not go together.
    """
    others = [name for name in table.columns if name not in beside]
    names = [column_name(table, name) for name in wanted]
    group = column_name(table, how.group) if how.group else ""
    kinds = {name: kind(table, name) for name in (names or others)}
    numbers = [name for name in kinds if kinds[name] == "number"]
    lists = [name for name in kinds if kinds[name] in ("numbers", "vectors")]
    words = [name for name in kinds if kinds[name] in ("text", "texts")]
    if numbers and not names:  # the times of rows of numbers are no texts
        words = [name for name in words if kinds[name] == "texts" or not is_calendar(table, [name])]
    if names and len(names) > 1 and len({"text" if kinds[n] in ("text", "texts") else kinds[n] for n in names}) > 1:
        what = f"columns of different kinds cannot be read together: {', '.join(f'{n} ({kinds[n]})' for n in names)}"
        raise DataError(what, file=table.name, hint="name one column of text, or columns of numbers, as --input")
    if names and len(words) > 1:
        raise DataError("one column of text can be read, two are named", file=table.name, hint="name one as --input")
    if words and not group and (sounds := find_sounds(table, words, how.mels)):
        return sounds
    if not group and (pictures := [name for name in words if names_images(table, name)]):
        colours = colours_of(table, pictures[0])
        return _images([pictures[0]], "images", how, colours, how.scale != "each")
    if group and numbers:
        return NumberInput(numbers, "steps", 0, group, alike=how.scale == "all")
    if group:
        hint = "give texts as one cell or one CoNLL sentence each"
        raise DataError("a group joins rows of numbers, and there are none", file=table.name, column=group, hint=hint)
    if lists:
        pixels = how.scan != "rows" or bool(how.image) or table.schema[lists[0]] == PIXELS
        alike = how.scale == "all" or (how.scale == "auto" and pixels)
        return _images(lists, "lists", how, how.channels or 1, alike)
    if words and (names or not numbers or not _are_labels(table, words)):
        longest = max(words, key=lambda name: _size(table, name))
        return TextInput(longest, kinds[longest] == "texts")
    if numbers:
        if how.channels and len(numbers) % how.channels:
            what = f"{len(numbers)} numbers a row cannot be cut into steps of {how.channels}"
            raise DataError(what, file=table.name, hint="data.channels must divide the number of input columns")
        return NumberInput(numbers, "wide" if how.channels else "row", how.channels, alike=how.scale == "all")
    raise DataError("no column that can be read", file=table.name, hint="name one with --input")


def _images(columns: list[str], layout: Layout, how: Data, colours: int, alike: bool) -> NumberInput:
    return NumberInput(columns, layout, scan=how.scan, colours=colours, image=tuple(how.image), alike=alike)


def _are_labels(table: Table, names: Sequence[str]) -> bool:
    """Whether all of these columns hold few different short texts, which tell classes and not stories."""
    return all(len(set(filled(table, name))) <= max(2, table.rows // 10) and _size(table, name) < 20 for name in names)


def _size(table: Table, name: str) -> float:
    """The mean length of a column's cells."""
    cells = table.column(name)
    return float(np.mean([len(cell) if cell is not None else 0 for cell in cells.head(1000).to_list()]))
