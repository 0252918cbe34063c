"""Pairs: a text and what belongs to it, another text of its own length, or several that are as good.

They are two columns of a table, be it delimited text, JSON lines, Parquet or two files line by line (see `parallel`).
Through vocabularies they become examples, and these batches (see `pair_batch`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from clew.data.pair_batch import PairBatch, PairBuckets, PairExample, collate_pairs
from clew.data.table import Table, column_name, kind, texts
from clew.data.vocabulary import Vocabulary
from clew.errors import ConfigError, DataError

__all__ = [
    "Pair",
    "PairBatch",
    "PairBuckets",
    "PairExample",
    "collate_pairs",
    "columns_of",
    "encode",
    "grouped",
    "of_tables",
    "read",
    "single",
    "sources",
    "targets",
]

MEND = "write a text into it, or drop the row"


class Pair(NamedTuple):
    """A source text, its target texts (at least one; references of one translation, say), and where they stand."""

    source: str
    targets: list[str]
    file: str
    row: int


def read(table: Table, inputs: Sequence[str] = (), target: str = "") -> list[Pair]:
    """The pairs of a table, a row each; for the columns see `columns_of`.

    Raises:
        DataError: a column that is not there or no text, an empty source or target.
    """
    source, target = columns_of(table, inputs, target)
    rows = zip(sources(table, source), targets(table, target), table.lines, strict=True)
    return [Pair(text, known, table.name, row) for text, known, row in rows]


def columns_of(table: Table, inputs: Sequence[str] = (), target: str = "") -> tuple[str, str]:
    """The columns of source and target, by name or number from 1.

    One that is not named is the first that holds texts and is not the other; of a table of two columns, the other
    whatever it holds, as numbers are texts too. A target may also be a column of lists of texts.

    Raises:
        DataError: no such column, several inputs, one column for both, or none that could be meant.
    """
    if len(inputs) > 1:
        what = f"a pair has one source, and {len(inputs)} columns are named"
        raise DataError(what, file=table.name, hint="name one column as --input")
    source = column_name(table, inputs[0]) if inputs else ""
    target = column_name(table, target) if target else ""
    if source and source == target:
        raise DataError("is named as source and as target", file=table.name, column=source, hint="name two columns")
    source = source or _first(table, ("text",), beside=target)
    target = target or _first(table, ("text", "texts"), beside=source)
    if not source or not target:
        what = f"no two columns of text among {', '.join(repr(name) for name in table.columns[:8])}"
        raise DataError(what, file=table.name, hint="name the source as --input, what belongs to it as --target")
    return source, target


def sources(table: Table, column: str) -> list[str]:
    """A column of texts, as they stand. Raises DataError where one is empty."""
    cells = texts(table, column)
    for row, text in zip(table.lines, cells, strict=True):
        if not text.strip():
            raise DataError("the source is empty", file=table.name, row=row, column=column, hint=MEND)
    return cells


def targets(table: Table, column: str) -> list[list[str]]:
    """A column of texts, or of lists of them, as a list a row. Raises DataError where one is empty."""
    lists = kind(table, column) == "texts"
    cells = table.column(column).to_list() if lists else [[text] for text in texts(table, column)]
    for row, known in zip(table.lines, cells, strict=True):
        if not known:
            hint = 'write ["a text", ...] into it, or drop the row'
            raise DataError("the row has no target", file=table.name, row=row, column=column, hint=hint)
        if not all(text and text.strip() for text in known):
            raise DataError("the target is empty", file=table.name, row=row, column=column, hint=MEND)
    return cells


def grouped(pairs: Iterable[Pair]) -> list[Pair]:
    """Pairs with the same source as one, with all their different targets in order: what a prediction is held
    against. Sources in the order, and at the place, of their first."""
    found: dict[str, Pair] = {}
    for pair in pairs:
        targets = [*found[pair.source].targets, *pair.targets] if pair.source in found else pair.targets
        found[pair.source] = found.get(pair.source, pair)._replace(targets=list(dict.fromkeys(targets)))
    return list(found.values())


def of_tables(tables: Iterable[Table], source: str, target: str) -> list[Pair]:
    """The pairs of several tables, each source once."""
    return grouped(pair for table in tables for pair in read(table, [source], target))


def single(pairs: Iterable[Pair]) -> list[Pair]:
    """A pair for each target: what is learned from."""
    return [pair._replace(targets=[target]) for pair in pairs for target in pair.targets]


def encode(pairs: Iterable[Pair], source: Vocabulary, target: Vocabulary, copying: bool = False) -> list[PairExample]:
    """The units of pairs: an example for each target. With `copying` words of a source are known in its target too.

    Raises:
        DataError: a text that holds no unit.
        ConfigError: a target's vocabulary of which a unit is several numbers.
    """
    if target.width != 1:
        hint = "choose another unit: word, piece, bpe, character or byte"
        raise ConfigError(f"nothing can be written in the unit '{target.unit}'", hint=hint)
    examples = []
    for pair in single(pairs):
        copied, words = target.read(pair.source) if copying else (None, [])
        units = source.encode(pair.source), target.write(pair.targets[0], words)
        for what, found in zip(("source", "target"), units, strict=True):
            if not len(found):
                raise DataError(f"the {what} holds nothing to read", file=pair.file, row=pair.row, hint=MEND)
        examples.append(PairExample(*units, copied))
    return examples


def _first(table: Table, kinds: Sequence[str], beside: str) -> str:
    """The first column of a kind that is not `beside`; of two columns, one of numbers is a text too."""
    if len(table.columns) == 2:
        kinds = (*kinds, "number", "flags")
    return next((name for name in table.columns if name != beside and kind(table, name) in kinds), "")
