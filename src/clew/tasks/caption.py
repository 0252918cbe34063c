"""Caption: a vector, an image, a series or a sound in, a text out: one-to-many, and attention over what is longer.

read         columns of numbers (a row is one vector), of lists of numbers (rows or columns of an image, steps of a
             series) or of sound files; and a column of texts
model        an encoder over the steps, and a decoder that writes (`models.paired`)
baseline     the commonest text of the training part
metrics      exact, cer (edits / characters)
predictions  the text that the model gives the highest score, or the best of them; how sure it is (nats)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clew.config import Decode, Recipe
from clew.data.pair_batch import PairBuckets, PairExample
from clew.data.table import Table
from clew.decode import Hypothesis
from clew.errors import ConfigError, read_back
from clew.models.build import paired
from clew.models.paired import Paired
from clew.tasks import saying, writing
from clew.tasks.base import Cells, Job, all_but
from clew.tasks.classify import unit
from clew.tasks.records import Record, spread, steps_of
from clew.tasks.saying import Said, Sayer
from clew.tasks.translate import WRITTEN

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 128, "bidirectional": True, "dropout": 0.2},
    "train": {"epochs": 30, "batch": 32, "lr": 3e-3, "patience": 8},
}
UNUSED = (
    *(
        *all_but("write", "hear", "numbers", "mask"),
        "data.group",
        "data.source_unit",
        "model.copying",
        "model.pooling",
        "model.letters",
    ),
    "model.word_dropout",
    *("train.class_weights", "train.window", "train.stride", "train.supervise"),
)


class Captioner(Sayer):
    """A trained model that says what numbers show.

    Args:
        longest: the most units that it may write.
    """

    metric_names = ("exact", "cer")

    def __init__(self, model: Paired, said: Said, longest: int, decode: Decode) -> None:
        super().__init__(said, decode)
        self.model, self.longest = model, longest

    def to_json(self) -> dict[str, Any]:
        return {**self.said.to_json(), "longest": self.longest}

    def search(self, records: Sequence[Record], nbest: int = 1) -> list[list[Hypothesis]]:
        sources = [PairExample(steps_of(self.source, record), np.zeros(0, np.int64)) for record in records]
        return writing.search(self.model, sources, self.target, self.decode, self.longest, nbest)


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    """Read and part the records, learn the units of the texts and build the model."""
    if recipe.decode.coverage and recipe.model.attention == "none":
        raise ConfigError(writing.UNSEEN, hint="leave it out, or set model.attention")
    told = saying.told(recipe, tables)
    train, valid, test = told.parts
    chosen = recipe.data.target_unit
    if chosen == "auto":
        guess = unit([record.answer for record in train])
        chosen = WRITTEN.get(guess, guess)
    said = told.learned(recipe, chosen)
    examples, teacher = (
        [PairExample(steps_of(said.source, record), said.target.write(record.answer, ())) for record in some]
        for some in (train, valid)
    )
    model = paired(recipe, said.source.channels, said.target, cells, said.source.frame)
    trained = Captioner(model, said, writing.longest_of(examples), recipe.decode)
    watched, greedy = spread(valid, writing.WATCHED), trained.searching(beam=1)

    def validate() -> dict[str, float]:
        nats = writing.foreseen(model, teacher).result()["nats"]
        found = trained.metrics(greedy.write(watched), watched)
        return {"loss": found["cer"] + 0.01 * min(nats, 10.0), "nats": nats, **found}

    batches = PairBuckets(examples, recipe.train.batch)
    return Job(
        told.resolved(recipe, chosen),
        trained,
        batches,
        validate,
        lambda: trained.score(test),
        every=len(batches),
        facts=told.facts,
    )


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Captioner:
    with read_back(file):
        said, longest = saying.from_json(saved, file), int(saved["longest"])
        if longest < 1:
            raise ValueError("texts of at least one unit")
    return Captioner(
        paired(recipe, said.source.channels, said.target, cells, said.source.frame), said, longest, recipe.decode
    )
