"""What a model reads: from the cells of a table, or a line of a stream, to steps (T, I).

AudioInput     a column of sound files, as frames (see `sounds`)
TextInput      a column of texts, or of lists of words, through a vocabulary
NumberInput    numbers, standardised by channel: a row as one step or as a whole sequence, lists as channels, or one
               row a step with a column that says which sequence it belongs to

`read` gives raw records, `fit` learns from those of the training part, `encode` makes the steps of one.

T steps, I input features, C channels
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from clew.data import vocabulary as vocabularies
from clew.data.audio import LogMel
from clew.data.series import Scaler
from clew.data.sounds import AudioInput, find_sounds
from clew.data.split import key_of_array, same_input_keys
from clew.data.table import Table, column_name, filled, is_calendar, kind, numeric, sequences, texts, tokens
from clew.data.vocabulary import Vocabulary
from clew.errors import DataError, did_you_mean, read_back

Layout = Literal["row", "wide", "lists", "steps"]
LARGEST = sys.float_info.max
Raw = Any  # a text, a list of words, or an array (T, C)


@dataclass(frozen=True)
class TextInput:
    """Texts of one column. `cut` says that they come as lists of words, or as words with blanks between."""

    column: str
    cut: bool
    vocabulary: Vocabulary | None = None

    @property
    def columns(self) -> list[str]:
        return [self.column]

    def read(self, table: Table) -> list[Raw]:
        """Raises DataError where a cell holds nothing."""
        if self.cut:
            return list(tokens(table, self.column))
        cells = texts(table, self.column)
        for row, text in zip(table.lines, cells, strict=True):
            if not text.strip():
                hint = "drop the row, or write a text into it"
                raise DataError("the text is empty", file=table.name, row=row, column=self.column, hint=hint)
        return list(cells)

    def keys(self, raws: Sequence[Raw]) -> Sequence[Hashable]:
        """Equal for records that are the same input, so that no split parts them."""
        return same_input_keys([" ".join(raw) if self.cut else raw for raw in raws])

    def fit(self, raws: Sequence[Raw], unit: str, *, lowercase: bool, min_count: int, largest: int) -> TextInput:
        learned = vocabularies.fit(unit, raws, lowercase=lowercase, min_count=min_count, largest=largest)
        return replace(self, vocabulary=learned)

    def encode(self, raw: Raw) -> np.ndarray:
        """(T, I) whole numbers; T is 0 for a text that holds no unit."""
        known = self.known
        return known.encode_tokens(raw) if self.cut else known.encode(raw)

    def from_line(self, value: Any, before: Any = None) -> tuple[np.ndarray, Any]:
        """The steps that a line of a stream brings: text, {"text": ...} or a list of words."""
        if isinstance(value, Mapping):
            if set(value) != {"text"} and self.column not in value:
                raise DataError("missing", column=self.column, hint='a line is text, or {"text": "..."}')
            value = value.get("text", value.get(self.column))
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            return self.known.encode_tokens(value), None
        if not isinstance(value, str):
            raise DataError(f"expected text, got {str(value)[:40]!r}", hint='a line is text, or {"text": "..."}')
        return self.known.encode_tokens(value.split()) if self.cut else self.known.encode(value), None

    @property
    def known(self) -> Vocabulary:
        assert self.vocabulary is not None, "fit comes first"
        return self.vocabulary

    def to_json(self) -> dict[str, Any]:
        return {"kind": "text", "column": self.column, "cut": self.cut, "vocabulary": self.known.to_json()}


@dataclass(frozen=True)
class NumberInput:
    """Numbers of one or more columns."""

    columns: list[str]
    layout: Layout
    channels: int = 0
    group: str = ""
    scaler: Scaler | None = None

    def read(self, table: Table) -> list[Raw]:
        """Raises DataError where a cell is no number, or a row does not hold whole steps."""
        if self.layout == "lists":
            return list(sequences(table, self.columns))
        values = np.stack([numeric(table, name) for name in self.columns], 1)
        if self.layout == "steps":
            return [values[rows] for rows in self.rows(table)]
        return list(values.reshape(len(values), -1, self.channels or values.shape[1]))

    def rows(self, table: Table) -> list[np.ndarray]:
        """Which rows of the table belong to each record, in the order of their first."""
        if self.layout != "steps":
            return [np.array([i]) for i in range(table.rows)]
        if not self.group:
            return [np.arange(table.rows)]
        _, first, which, n = np.unique(
            texts(table, self.group), return_index=True, return_inverse=True, return_counts=True
        )
        of_group = np.split(np.argsort(which, kind="stable"), np.cumsum(n)[:-1])
        return [of_group[i] for i in np.argsort(first)]

    def keys(self, raws: Sequence[Raw]) -> Sequence[Hashable]:
        return [key_of_array(raw) for raw in raws]

    def fit(self, raws: Sequence[Raw], *_: object, **__: object) -> NumberInput:
        return replace(self, scaler=Scaler.fit(np.concatenate(raws)), channels=raws[0].shape[1])

    def encode(self, raw: Raw) -> np.ndarray:
        """(T, C) standardised."""
        assert self.scaler is not None, "fit comes first"
        if raw.shape[1] != self.channels:
            raise DataError(f"has {raw.shape[1]} channels, the model reads {self.channels}")
        return self.scaler.apply(raw).astype(np.float32)

    def from_line(self, value: Any, before: Any = None) -> tuple[np.ndarray, Any]:
        """The step that a line of a stream brings, see `numbers_of`."""
        named = len(self.columns) == self.channels
        names = self.columns if named else [str(channel) for channel in range(1, self.channels + 1)]
        return self.encode(numbers_of(value, names)[None]), None

    def to_json(self) -> dict[str, Any]:
        assert self.scaler is not None, "fit comes first"
        fixed = {"kind": "numbers", "columns": self.columns, "layout": self.layout, "channels": self.channels}
        return {**fixed, "group": self.group, "scaler": self.scaler.to_json()}


Input = TextInput | NumberInput | AudioInput


def from_json(saved: Any, file: object) -> Input:
    """The input that `to_json` wrote. Raises RunError where the object holds none."""
    with read_back(file):
        if saved["kind"] == "text":
            known = vocabularies.from_json(saved["vocabulary"], file)
            return TextInput(str(saved["column"]), bool(saved["cut"]), known)
        if saved["kind"] == "audio":
            front, scaler = LogMel(**saved["front"]), Scaler.from_json(saved["scaler"])
            if len(scaler.mean) != front.mels:
                raise ValueError("as many means as mels")
            return AudioInput(str(saved["column"]), front, scaler)
        if saved["kind"] != "numbers" or saved["layout"] not in ("row", "wide", "lists", "steps"):
            raise ValueError("an unknown kind of input")
        columns, scaler = [str(name) for name in saved["columns"]], Scaler.from_json(saved["scaler"])
        channels = int(saved["channels"])
        if not columns or len(scaler.mean) != channels:
            raise ValueError("as many means as channels")
        return NumberInput(columns, saved["layout"], channels, str(saved["group"]), scaler)


def numbers_of(value: Any, names: Sequence[str]) -> np.ndarray:
    """The numbers (C,) of one step as a line of a stream has them: a number, a list of one a column, or an object.

    Raises:
        DataError: one is missing, unknown, not a number or not finite.
    """
    if isinstance(value, Mapping):
        for name in names:
            if name not in value:
                raise DataError("missing", column=name, hint=did_you_mean(name, value) if value else None)
        value = [value[name] for name in names]
    elif isinstance(value, int | float):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != len(names):
        raise DataError(
            f"expected {len(names)} numbers a step ({', '.join(names)}), got {value!r}",
            hint=f"one JSON line a step: {{{', '.join(f'{name!r}: 1.0' for name in names)}}}".replace("'", '"'),
        )
    for name, number in zip(names, value, strict=True):
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= LARGEST:
            raise DataError(f"{number!r} is not a finite number", column=name)
    return np.array(value, dtype=np.float64)


def find(
    table: Table, wanted: Sequence[str], beside: Sequence[str], *, channels: int = 0, group: str = "", mels: int = 40
) -> Input:
    """The input that the wanted columns make, or, where none is named, those that are there.

    Args:
        beside: columns that it may not be: the target, the group.
        channels: see the recipe's `data.channels`.
        group: see the recipe's `data.group`.
        mels: see the recipe's `data.mels`.

    Raises:
        DataError: no such column, none that can be read, or kinds that do not go together.
    """
    others = [name for name in table.columns if name not in beside]
    names = [column_name(table, name) for name in wanted]
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
    if words and not group and (sounds := find_sounds(table, words, mels)):
        return sounds
    if group and numbers:
        return NumberInput(numbers, "steps", 0, group)
    if group:
        hint = "give texts as one cell or one CoNLL sentence each"
        raise DataError("a group joins rows of numbers, and there are none", file=table.name, column=group, hint=hint)
    if lists:
        return NumberInput(lists, "lists")
    if words and (names or not numbers or not _are_labels(table, words)):
        longest = max(words, key=lambda name: _size(table, name))
        return TextInput(longest, kinds[longest] == "texts")
    if numbers:
        if channels and len(numbers) % channels:
            what = f"{len(numbers)} numbers a row cannot be cut into steps of {channels}"
            raise DataError(what, file=table.name, hint="data.channels must divide the number of input columns")
        return NumberInput(numbers, "wide" if channels else "row", channels)
    raise DataError("no column that can be read", file=table.name, hint="name one with --input")


def _are_labels(table: Table, names: Sequence[str]) -> bool:
    """Whether all of these columns hold few different short texts, which tell classes and not stories."""
    return all(len(set(filled(table, name))) <= max(2, table.rows // 10) and _size(table, name) < 20 for name in names)


def _size(table: Table, name: str) -> float:
    """The mean length of a column's cells."""
    cells = table.column(name)
    return float(np.mean([len(cell) if cell is not None else 0 for cell in cells.head(1000).to_list()]))
