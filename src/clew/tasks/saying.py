"""What `caption` and `transcribe` share: numbers of any kind, a text for each, and a model that says it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from clew.config import Decode, Recipe
from clew.data import inputs
from clew.data import vocabulary as vocabularies
from clew.data.inputs import NumberInput, TextInput
from clew.data.pair_batch import PairExample
from clew.data.sounds import AudioInput
from clew.data.table import Table, column_name, labels
from clew.data.vocabulary import Vocabulary
from clew.decode import Hypothesis
from clew.decode.ctc import Spoken
from clew.errors import ConfigError, read_back
from clew.tasks import writing
from clew.tasks.base import Predictions, Scores, Searching, Shown, say
from clew.tasks.guess import text_column
from clew.tasks.records import (
    Record,
    deal,
    facts_of,
    gather,
    refuse_long,
    refuse_unread,
    split_columns,
    spread,
    steps_of,
)

SAID = 8  # columns that are named
Numbers = NumberInput | AudioInput


class Said(NamedTuple):
    """What a model that says texts reads, and in what it writes.

    `commonest` is the text that the training part has most often: the naive guess.
    """

    source: Numbers
    column: str
    target: Vocabulary
    commonest: str

    def to_json(self) -> dict[str, Any]:
        saved = {"input": self.source.to_json(), "column": self.column, "target": self.target.to_json()}
        return {**saved, "commonest": self.commonest}


class Sayer(Searching, ABC):
    """A trained model that says in words what numbers hold."""

    metric_names: ClassVar[tuple[str, ...]]  # of `writing.errors`

    def __init__(self, said: Said, decode: Decode) -> None:
        self.said, self.decode = said, decode

    @property
    def source(self) -> Numbers:
        return self.said.source

    @property
    def target(self) -> Vocabulary:
        return self.said.target

    @abstractmethod
    def search(self, records: Sequence[Record], nbest: int = 1) -> Sequence[Sequence[Hypothesis | Spoken]]:
        """The best texts for each record, as units, and what they are worth; the best first."""

    def write(self, records: Sequence[Record]) -> list[str]:
        return [self.target.decode(found[0].units) if found else "" for found in self.search(records)]

    def metrics(self, written: Sequence[str], records: Sequence[Record]) -> dict[str, float]:
        found = writing.errors(self.target, written, [record.answer for record in records])
        return {name: found[name] for name in self.metric_names}

    def score(self, records: Sequence[Record]) -> Scores:
        naive = self.metrics([self.said.commonest] * len(records), records)
        return self.metrics(self.write(records), records), {"commonest": naive}, len(records)

    def evaluate(self, tables: list[Table]) -> Scores:
        return self.score(gather(tables, self.source, lambda table, _: labels(table, self.said.column)))

    def predictions(self, table: Table, horizon: int = 0, nbest: int = 1) -> Predictions:
        """One row a record, or `nbest` of them, the best first."""
        records = gather([table], self.source, lambda table, source: [None] * table.rows)
        rows = [
            [record.row, rank, self.target.decode(one.units), one.score, -one.logp]
            for record, found in zip(records, self.search(records, nbest), strict=True)
            for rank, one in enumerate(found, 1)
        ]
        return Predictions(["row", "rank", self.said.column, "score", "nats"], rows)

    def shown(self, tables: list[Table], most: int) -> list[Shown]:
        records = spread(gather(tables, self.source, lambda table, _: labels(table, self.said.column)), most)
        found = []
        for record, text in zip(records, self.write(records), strict=True):
            wrong = writing.errors(self.target, [text], [record.answer])["cer"]
            example = PairExample(steps_of(self.source, record), self.target.write(record.answer, ()))
            found.append(Shown(f"{record.file}, row {record.row}", example, record.answer, text, wrong))
        return found


class Told(NamedTuple):
    """The records of sources with texts, in their three parts, and the input, which the training part has fitted."""

    source: Numbers
    column: str
    parts: list[list[Record]]
    facts: dict[str, Any]

    def learned(self, recipe: Recipe, unit: str) -> Said:
        """What the training part shows of how texts are written."""
        d, texts = recipe.data, [record.answer for record in self.parts[0]]
        target = vocabularies.fit(unit, texts, lowercase=d.lowercase, min_count=d.min_count, largest=d.vocabulary)
        return Said(self.source, self.column, target, writing.commonest(texts))

    def resolved(self, recipe: Recipe, unit: str) -> Recipe:
        """The recipe with what was left open written down."""
        found = {"inputs": self.source.columns, "target": self.column, "target_unit": unit}
        return recipe.model_copy(update={"data": recipe.data.model_copy(update=found)})


def told(recipe: Recipe, tables: list[Table]) -> Told:
    """Find the columns, read and part the records.

    Raises:
        ConfigError: the input is text.
        DataError: a column or a record that cannot be used.
    """
    d, hidden = recipe.data, split_columns(recipe, tables[0])
    column = column_name(tables[0], d.target) if d.target else text_column(tables[0], hidden)
    source = inputs.find(tables[0], d.inputs, [column, *hidden], d)
    if isinstance(source, TextInput):
        hint = "name columns of numbers, of lists of them or of sound files as --input"
        raise ConfigError("texts are no numbers: one text from another is --task translate", hint=hint)
    if not d.target or not d.inputs:
        say(f"target: '{column}'; input: {', '.join(map(repr, source.columns[:SAID]))}")

    def keys(records: list[Record]) -> Sequence[Hashable]:
        return source.keys([record.raw for record in records])

    parts = deal(recipe, tables, lambda given: gather(given, source, lambda table, _: labels(table, column)), keys)
    raws = [record.raw for record in parts[0]]
    refuse_long(parts[0], [len(raw) for raw in raws], "cut it into pieces with a text each")
    fitted = source.fit(raws)
    refuse_unread(recipe, fitted)
    return Told(fitted, column, parts, facts_of(parts, keys))


def from_json(saved: dict[str, Any], file: Path) -> Said:
    """What `Said.to_json` wrote. Raises RunError where the object holds none."""
    with read_back(file):
        source, target = inputs.from_json(saved["input"], file), vocabularies.from_json(saved["target"], file)
        if isinstance(source, TextInput) or target.width != 1:
            raise ValueError("numbers, and units that can be written")
        return Said(source, str(saved["column"]), target, str(saved["commonest"]))
