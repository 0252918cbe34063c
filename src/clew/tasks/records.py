"""Records: the rows of tables as inputs with answers, parted into training, validation and test without leaks.

Equal inputs land in the same part; the steps of one long series are parted in time order; a part that comes from a
source of its own is compared with the training part, and what they share is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from clew.config import Recipe
from clew.data import series
from clew.data.inputs import Input, NumberInput, TextInput
from clew.data.lists import tokens
from clew.data.sources import read_table
from clew.data.split import grouped, shared
from clew.data.table import Table, labels, texts
from clew.errors import ConfigError, DataError
from clew.tasks.base import refuse_unused

T = TypeVar("T")
LONGEST = 20_000  # steps that are learned from whole
MASKS = ("train.mask_steps", "train.mask_channels")
Read = Callable[[Table, Input], list[Any]]  # the answers of a table's records, one each


class Record(NamedTuple):
    raw: Any
    answer: Any
    file: str
    row: int


@dataclass(frozen=True)
class Parts:
    train: list[Record]
    valid: list[Record]
    test: list[Record]
    shared: int  # records of the test part whose input occurs in the training part too


def gather(tables: Sequence[Table], source: Input, read: Read) -> list[Record]:
    """Every record of the tables."""
    records = []
    for table in tables:
        raws, answers = source.read(table), read(table, source)
        firsts = [int(rows[0]) for rows in source.rows(table)] if isinstance(source, NumberInput) else range(len(raws))
        for raw, answer, first in zip(raws, answers, firsts, strict=True):
            records.append(Record(raw, answer, table.name, table.lines[first]))
    return records


def labels_of_steps(table: Table, source: Input, column: str) -> list[list[str]]:
    """A label for each step of the table's records.

    Raises:
        DataError: more or fewer labels than steps.
    """
    if isinstance(source, NumberInput) and source.layout == "steps":
        cells = labels(table, column)
        return [[cells[row] for row in rows] for rows in source.rows(table)]
    given, raws = tokens(table, column, isinstance(source, TextInput) and source.letters), source.read(table)
    for tags, raw, row in zip(given, raws, table.lines, strict=True):
        if len(tags) != len(raw):
            what = f"{len(tags)} tags for {len(raw)} {'words' if isinstance(source, TextInput) else 'steps'}"
            hint = "each word needs one tag, parted by blanks"
            raise DataError(what, file=table.name, row=row, column=column, hint=hint)
    return given


def part(
    recipe: Recipe,
    tables: list[Table],
    source: Input,
    read: Read,
    classes: Callable[[Any], Collection[Hashable]],
    cut: Callable[[Any, slice], Any],
) -> Parts:
    """The three parts as the recipe's `data.valid` and `data.test` say.

    Args:
        classes: those that an answer holds: training gets each, and where answers are one class, all parts in
            proportion.
        cut: an answer to what belongs to some steps, where there is one for each.

    Raises:
        DataError: a part would be empty, or a source of one cannot be read.
    """

    def gathered(some: list[Table]) -> list[Record]:
        return gather(some, source, read)

    def keys(records: list[Record]) -> Sequence[Hashable]:
        return source.keys([record.raw for record in records])

    if isinstance(source, NumberInput) and source.layout == "steps" and not source.group:
        left, named_tables = set_apart(recipe, tables)
        named = {name: gathered(some) for name, some in named_tables.items()}
        apart = _in_time(gathered(left), recipe, named, cut)
        return Parts(apart["train"], apart["valid"], apart["test"], 0)
    train, valid, test = deal(recipe, tables, gathered, keys, lambda record: classes(record.answer))
    return Parts(train, valid, test, shared(keys(train), keys(test)))


def deal(
    recipe: Recipe,
    tables: list[Table],
    read: Callable[[list[Table]], list[T]],
    keys: Callable[[list[T]], Sequence[Hashable]],
    classes: Callable[[T], Collection[Hashable]] | None = None,
) -> list[list[T]]:
    """Training, validation and test records; those with equal keys land in one part.

    Args:
        classes: of a record; see `part`.

    Raises:
        DataError: a part would be empty, or a source of one cannot be read.
    """
    left, named_tables = set_apart(recipe, tables)
    named = {name: read(some) for name, some in named_tables.items()}
    found = read(left)
    fractions = [0.0 if name in named else float(getattr(recipe.data, name)) for name in ("valid", "test")]
    held = None if classes is None else [classes(record) for record in found]
    strata = [next(iter(kinds)) for kinds in held] if held and all(len(kinds) == 1 for kinds in held) else None
    indices = grouped(list(keys(found)), fractions[0], fractions[1], recipe.seed, strata, held)
    train, valid, test = ([found[i] for i in index] for index in indices)
    return [train, named.get("valid", valid), named.get("test", test)]


def facts_of(parts: Sequence[Sequence[Any]], keys: Callable[[Any], Sequence[Hashable]]) -> dict[str, Any]:
    """What a run says of its training, validation and test part."""
    facts: dict[str, Any] = {"parts": dict(zip(("train", "valid", "test"), map(len, parts), strict=True))}
    if seen := shared(keys(parts[0]), keys(parts[2])):
        facts["test_seen_in_training"] = seen
    return facts


def split_columns(recipe: Recipe, table: Table) -> list[str]:
    """The columns by which parts are chosen; the model may not see them."""
    named = [wanted.partition("=") for wanted in (recipe.data.valid, recipe.data.test) if isinstance(wanted, str)]
    return [column for column, equals, _ in named if equals and column in table.columns]


def refuse_unread(recipe: Recipe, source: Input) -> None:
    """Raise ConfigError where a key says how to read what the input is not. The source has been fitted."""
    d, layout = recipe.data, getattr(source, "layout", "")
    kind = {"": "sounds", "lists": "lists", "images": "images"}.get(layout, "rows of numbers")
    kind, keys = ("texts", MASKS) if isinstance(source, TextInput) else (kind, ())
    if kind not in ("lists", "images"):
        keys = (*keys, "data.scan", "data.image")
    if kind in ("texts", "sounds"):
        keys = (*keys, "data.scale")
    if kind in ("texts", "sounds", "images") or (kind == "lists" and d.scan == "rows" and not d.image):
        keys = (*keys, "data.channels")
    refuse_unused(recipe, keys, kind, "leave it out")
    if d.image and kind == "lists" and isinstance(source, NumberInput) and source.frame is None:
        what = f"data.image = {d.image}: a step of {source.channels} numbers is no such image"
        raise ConfigError(what, hint="give height and width of the image that each step is, or leave it out")


def steps_of(source: Input, record: Record) -> np.ndarray:
    """The steps (T, I) of a record. Raises DataError with its place where it holds none."""
    try:
        x = source.encode(record.raw)
    except DataError as error:
        raise DataError(error.what, file=record.file, row=record.row, hint=error.hint) from error
    if not len(x):
        hint = "drop the row, or write something into it"
        raise DataError("holds nothing to read", file=record.file, row=record.row, hint=hint)
    return x


def refuse_long(records: Sequence[Record], lengths: Sequence[int], hint: str) -> None:
    """Raise DataError where a sequence is too long to be learned from whole."""
    if max(lengths) > LONGEST:
        worst = records[int(np.argmax(lengths))]
        what = f"a sequence of {max(lengths):,} steps is too long to learn from whole"
        raise DataError(what, file=worst.file, row=worst.row, hint=hint)


def spread(records: list[T], most: int) -> list[T]:
    """At most so many, from all over: files are often sorted."""
    return records if len(records) <= most else [records[i * len(records) // most] for i in range(most)]


def set_apart(recipe: Recipe, tables: list[Table]) -> tuple[list[Table], dict[str, list[Table]]]:
    """What is left of the tables, and the parts "valid" and "test" where they are a source of their own, or the rows
    with COLUMN=VALUE.

    Raises:
        DataError: no row has the value, or a source cannot be read.
    """
    named: dict[str, list[Table]] = {}
    keep = [np.ones(table.rows, dtype=bool) for table in tables]
    for name in ("valid", "test"):
        wanted = getattr(recipe.data, name)
        if not isinstance(wanted, str):
            continue
        column, equals, value = wanted.partition("=")
        if not (equals and column in tables[0].columns):
            named[name] = [_beside(wanted, tables[0])]
            continue
        which = [np.array([cell.strip() == value for cell in texts(table, column)], dtype=bool) for table in tables]
        if not any(rows.any() for rows in which):
            hint = "look at data.valid and data.test"
            raise DataError(f"no row has '{value}'", file=tables[0].name, column=column, hint=hint)
        keep = [left & ~rows for left, rows in zip(keep, which, strict=True)]
        named[name] = _rows(tables, which)
    return _rows(tables, keep), named


def _beside(name: str, table: Table) -> Table:
    """A source named in a recipe: as it stands, or else in the folder of the table, read as the table was."""
    near = Path(table.name).parent / name
    found = near if not name.startswith("sample:") and not Path(name).exists() and near.exists() else name
    return read_table(found, header=table.header)


def _rows(tables: list[Table], which: list[np.ndarray]) -> list[Table]:
    """The chosen rows of each table that has any."""
    pairs = [(table, rows) for table, rows in zip(tables, which, strict=True) if rows.any()]
    return [table if rows.all() else table.take(np.flatnonzero(rows)) for table, rows in pairs]


def _in_time(
    records: list[Record], recipe: Recipe, named: dict[str, list[Record]], cut: Callable[[Any, slice], Any]
) -> dict[str, list[Record]]:
    """Each series cut in time order, but for the parts that have sources of their own."""
    apart: dict[str, list[Record]] = {"train": [], "valid": [], "test": []}
    for record in records:
        fractions = [0.0 if n in named else float(getattr(recipe.data, n)) for n in ("valid", "test")]
        try:
            slices = series.split(len(record.raw), *fractions)
        except DataError as error:
            raise DataError(error.what, file=record.file, hint=error.hint) from error
        for name, steps in zip(apart, slices, strict=True):
            if name not in named and steps.stop > steps.start:
                apart[name].append(record._replace(raw=record.raw[steps], answer=cut(record.answer, steps)))
    return apart | named
