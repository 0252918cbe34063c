"""Texts as what a model reads: one column, through a vocabulary."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clew.data import vocabulary as vocabularies
from clew.data.lists import spelled, tokens
from clew.data.split import same_input_keys
from clew.data.table import Table, texts
from clew.data.vocabulary import Vocabulary
from clew.errors import DataError, shortly

Raw = Any  # a text, or a list of words


@dataclass(frozen=True)
class TextInput:
    """Texts of one column.

    Args:
        cut: whether they come as lists of words, or as words with blanks between.
        letters: whether each letter is such a word.
    """

    column: str
    cut: bool
    vocabulary: Vocabulary | None = None
    letters: bool = False

    @property
    def columns(self) -> list[str]:
        return [self.column]

    @property
    def channel_names(self) -> list[str]:
        """What the numbers of a step are called."""
        return ["unit", *(f"letter {i}" for i in range(1, self.known.width))]

    def read(self, table: Table) -> list[Raw]:
        """Raises DataError where a cell holds nothing."""
        if self.cut:
            return list(tokens(table, self.column, self.letters))
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
        unit = "word" if self.letters else unit
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
            raise DataError(f"expected text, got {shortly(value)}", hint='a line is text, or {"text": "..."}')
        if not self.cut:
            return self.known.encode(value), None
        words = value.split()
        return self.known.encode_tokens(spelled(words) if self.letters else words), None

    @property
    def known(self) -> Vocabulary:
        assert self.vocabulary is not None, "fit comes first"
        return self.vocabulary

    def to_json(self) -> dict[str, Any]:
        fixed = {"kind": "text", "column": self.column, "cut": self.cut, "letters": self.letters}
        return {**fixed, "vocabulary": self.known.to_json()}
