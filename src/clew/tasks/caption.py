"""Caption: a vector, an image, a series or a sound in, a text out: one-to-many, and attention over what is longer.

read         columns of numbers (a row is one vector), of lists of numbers (rows or columns of an image, steps of a
             series) or of sound files; and a column of texts
model        an encoder over the steps, and a decoder that writes (`models.paired`)
baseline     the commonest text of the training part
metrics      exact, cer (edits / characters)
predictions  the text that the model gives the highest score, or the best of them; how sure it is (nats)
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clew.config import Decode, Recipe, build
from clew.data import inputs
from clew.data import vocabulary as vocabularies
from clew.data.inputs import Input, TextInput
from clew.data.pair_batch import PairBuckets, PairExample
from clew.data.table import Table, column_name, labels
from clew.data.vocabulary import Vocabulary
from clew.decode import Hypothesis
from clew.errors import ConfigError, RunError
from clew.models.build import paired
from clew.models.paired import Paired
from clew.tasks import writing
from clew.tasks.base import Cells, Job, Predictions, Scores, all_but, say
from clew.tasks.classify import unit
from clew.tasks.guess import text_column
from clew.tasks.records import Record, deal, facts_of, gather, refuse_long, split_columns, spread, steps_of
from clew.tasks.translate import WRITTEN

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 128, "bidirectional": True, "dropout": 0.2},
    "train": {"epochs": 30, "batch": 32, "lr": 3e-3, "patience": 8},
}
UNUSED = (
    *(*all_but("write", "hear"), "data.group", "data.source_unit", "model.copying", "model.pooling", "model.letters"),
    "model.word_dropout",
    *("train.class_weights", "train.window", "train.stride", "train.supervise"),
)


class Captioner:
    """A trained model that says what numbers show.

    Args:
        commonest: the text that the training part has most often.
        longest: the most units that it may write.
    """

    def __init__(
        self,
        model: Paired,
        source: Input,
        column: str,
        target: Vocabulary,
        commonest: str,
        longest: int,
        decode: Decode,
    ) -> None:
        self.model, self.source, self.column, self.target = model, source, column, target
        self.commonest, self.longest, self.decode = commonest, longest, decode

    def to_json(self) -> dict[str, Any]:
        saved = {"input": self.source.to_json(), "column": self.column, "target": self.target.to_json()}
        return {**saved, "commonest": self.commonest, "longest": self.longest}

    def searching(self, **changes: Any) -> Captioner:
        """The same model with other words on how texts are found: see the recipe's [decode]."""
        decode = build({"decode": self.decode.model_dump() | changes}).decode
        return Captioner(self.model, self.source, self.column, self.target, self.commonest, self.longest, decode)

    def search(self, records: Sequence[Record], nbest: int = 1) -> list[list[Hypothesis]]:
        """The best texts for each, as units, and what they are worth."""
        sources = [PairExample(steps_of(self.source, record), np.zeros(0, np.int64)) for record in records]
        return writing.search(self.model, sources, self.target, self.decode, self.longest, nbest)

    def write(self, records: Sequence[Record]) -> list[str]:
        return [self.target.decode(found[0].units) if found else "" for found in self.search(records)]

    def metrics(self, written: Sequence[str], records: Sequence[Record]) -> dict[str, float]:
        found = writing.errors(self.target, written, [record.answer for record in records])
        return {name: found[name] for name in ("exact", "cer")}

    def score(self, records: Sequence[Record]) -> Scores:
        naive = self.metrics([self.commonest] * len(records), records)
        return self.metrics(self.write(records), records), {"commonest": naive}, len(records)

    def evaluate(self, tables: list[Table]) -> Scores:
        return self.score(gather(tables, self.source, lambda table, _: labels(table, self.column)))

    def predictions(self, table: Table, horizon: int = 0, nbest: int = 1) -> Predictions:
        records = gather([table], self.source, lambda table, source: [None] * table.rows)
        rows = [
            [record.row, rank, self.target.decode(one.units), one.score, -one.logp]
            for record, found in zip(records, self.search(records, nbest), strict=True)
            for rank, one in enumerate(found, 1)
        ]
        return Predictions(["row", "rank", self.column, "score", "nats"], rows)


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    """Read and part the records, learn the units of the texts and build the model."""
    d, t = recipe.data, recipe.train
    hidden = split_columns(recipe, tables[0])
    column = column_name(tables[0], d.target) if d.target else text_column(tables[0], hidden)
    source = inputs.find(tables[0], d.inputs, [column, *hidden], channels=d.channels, mels=d.mels)
    if isinstance(source, TextInput):
        hint = "name columns of numbers, of lists or of sound files as --input"
        raise ConfigError("one text from another is --task translate", hint=hint)
    if recipe.decode.coverage and recipe.model.attention == "none":
        raise ConfigError(writing.UNSEEN, hint="leave it out, or set model.attention")
    if not d.target or not d.inputs:
        say(f"target: '{column}'; input: {', '.join(map(repr, source.columns[:8]))}")

    def keys(records: list[Record]) -> Sequence[Hashable]:
        return source.keys([record.raw for record in records])

    parts = deal(recipe, tables, lambda given: gather(given, source, lambda table, _: labels(table, column)), keys)
    train, valid, test = parts
    refuse_long(train, [len(record.raw) for record in train], "cut it into pieces with a text each")
    texts = [record.answer for record in train]
    guess = unit(texts)
    chosen = WRITTEN.get(guess, guess) if d.target_unit == "auto" else d.target_unit
    target = vocabularies.fit(chosen, texts, lowercase=d.lowercase, min_count=d.min_count, largest=d.vocabulary)
    fitted = source.fit([record.raw for record in train])
    examples, teacher = (
        [PairExample(steps_of(fitted, record), target.write(record.answer, ())) for record in some]
        for some in (train, valid)
    )
    longest = writing.longest_of(examples)
    model = paired(recipe, fitted.channels, target, cells)
    trained = Captioner(model, fitted, column, target, writing.commonest(texts), longest, recipe.decode)
    watched = spread(valid, writing.WATCHED)

    def validate() -> dict[str, float]:
        nats = writing.foreseen(trained.model, teacher).result()["nats"]
        found = trained.metrics(trained.searching(beam=1).write(watched), watched)
        return {"loss": found["cer"] + 0.01 * min(nats, 10.0), "nats": nats, **found}

    resolved = {"inputs": source.columns, "target": column, "target_unit": chosen}
    recipe = recipe.model_copy(update={"data": d.model_copy(update=resolved)})
    batches, facts = PairBuckets(examples, t.batch), facts_of(parts, keys)
    return Job(recipe, trained, batches, validate, lambda: trained.score(test), every=len(batches), facts=facts)


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Captioner:
    try:
        source, target = inputs.from_json(saved["input"], file), vocabularies.from_json(saved["target"], file)
        column, naive, longest = str(saved["column"]), str(saved["commonest"]), int(saved["longest"])
        if isinstance(source, TextInput) or target.width != 1 or longest < 1:
            raise ValueError("numbers, and units that can be written")
    except RunError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RunError(f"does not hold what this run needs: {error}", file=file, hint="train it again") from error
    model = paired(recipe, source.channels, target, cells)
    return Captioner(model, source, column, target, naive, longest, recipe.decode)
