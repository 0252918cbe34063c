"""Tag: a label for each step of a sequence, words or rows of numbers.

read         CoNLL columns, a column of words and one of tags, or rows of numbers with a label each
model        a stack of recurrences with a softmax at each step, or with a linear-chain CRF over all of them
baselines    the commonest tag, and the commonest tag of each word
metrics      accuracy (of steps), and f1 (with precision and recall) of entities where the tags are BIO
predictions  a row a step: the likeliest tag, and its probability
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from clew.config import Recipe
from clew.data.inputs import Input
from clew.data.table import Table
from clew.errors import ConfigError, DataError
from clew.metrics import Tags
from clew.models import Head, SequenceHead
from clew.models.heads.chain import ChainHead
from clew.tasks import labelled
from clew.tasks.answers import ClassAnswers
from clew.tasks.base import Cells, Job, all_but, refuse_unused, say
from clew.tasks.guess import are_letters, tag_columns
from clew.tasks.labelled import Labelled
from clew.tasks.records import Record, labels_of_steps

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 128, "dropout": 0.3},
    "train": {"epochs": 12, "lr": 3e-3, "patience": 4},
}
OF_STEPS = (  # keys that say nothing where all tags of a sequence are learned together
    *("train.label_smoothing", "train.class_weights", "train.entropy_matching"),
    *("train.window", "train.stride"),
)
UNUSED = (*all_but("tag", "numbers", "mask"), "data.channels", "model.pooling")


class TagNames(ClassAnswers):
    """One of K names for each step; the commonest tag of each word is that of the training part.

    With `chain` a prediction is not the log-probability of each name but the number of the best one, and the
    log-probability of that (see `ChainHead`).
    """

    aligned, what = True, "tag"

    def __init__(
        self,
        column: str,
        names: Sequence[str] = (),
        counts: Sequence[int] = (),
        by_word: dict[str, str] | None = None,
        chain: bool = False,
    ) -> None:
        super().__init__(column, names, counts)
        self.by_word, self.chain = by_word or {}, chain

    def read(self, table: Table, source: Input) -> list[list[str]]:
        return labels_of_steps(table, source, self.column)

    def fit(self, train: Sequence[Record]) -> TagNames:
        counts = Counter(tag for record in train for tag in record.answer)
        if len(counts) < 2:
            what = f"every step of the training part is '{next(iter(counts))}': there is nothing to tell apart"
            raise DataError(what, file=train[0].file, column=self.column, hint="choose another --target")
        by_word: dict[str, Counter[str]] = {}
        for record in train:
            if isinstance(record.raw, list):
                for word, tag in zip(record.raw, record.answer, strict=True):
                    by_word.setdefault(word, Counter())[tag] += 1
        names = sorted(counts)
        commonest = {word: min(c, key=lambda tag: (-c[tag], tag)) for word, c in by_word.items()}
        return TagNames(self.column, names, [counts[name] for name in names], commonest, self.chain)

    def classes(self, answer: list[str]) -> set[str]:
        return set(answer)

    def encode(self, record: Record, steps: int) -> np.ndarray:
        return np.array([self.number(tag, record, t) for t, tag in enumerate(record.answer, 1)], dtype=np.int32)

    @property
    def size(self) -> int:
        return 2 if self.chain else super().size

    def is_right(self, predicted: np.ndarray, record: Record) -> bool:
        return [self.names[i] for i in self._best(predicted)[0]] == record.answer

    def score(self, predicted: Sequence[np.ndarray], records: Sequence[Record]) -> dict[str, float]:
        return self._score(records, [self._best(steps)[0].tolist() for steps in predicted])

    def baseline(self, records: Sequence[Record]) -> dict[str, dict[str, float]]:
        most = int(self.counts.argmax())
        scores = {"majority": self._score(records, [[most] * len(record.answer) for record in records])}
        if self.by_word:
            by_word = [[self.index[self.by_word.get(word, self.names[most])] for word in r.raw] for r in records]
            scores["by_word"] = self._score(records, by_word)
        return scores

    def loss(self, metrics: dict[str, float]) -> float:
        return 1 - metrics.get("f1", metrics["accuracy"])

    def columns(self) -> list[str]:
        return [self.column, "probability"]

    def said(self, predicted: np.ndarray) -> list[Any]:
        best, logp = self._best(predicted)
        return [self.names[int(best)], float(np.exp(logp))]

    def _best(self, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The numbers (...) of the best names of predictions (..., P), and their log-probabilities."""
        if self.chain:
            return predicted[..., 0].astype(np.int64), predicted[..., 1]
        return predicted.argmax(-1), predicted.max(-1)

    def head(self, width: int, recipe: Recipe) -> Head | SequenceHead:
        if self.chain:
            return ChainHead(width, len(self.names), recipe.model.dropout)
        return super().head(width, recipe)

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "by_word": self.by_word, "chain": self.chain}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        tags = super().from_json(saved)
        tags.by_word = {str(word): str(tag) for word, tag in saved["by_word"].items()}
        tags.chain = bool(saved.get("chain", False))  # a run of before there were chains has none
        if not set(tags.by_word.values()) <= set(tags.names):
            raise ValueError("a tag that is none")
        return tags

    def _score(self, records: Sequence[Record], predicted: Sequence[Sequence[int]]) -> dict[str, float]:
        metric = Tags(self.names)
        for record, tags in zip(records, predicted, strict=True):
            metric.update([self.index[tag] for tag in record.answer], list(tags))
        return metric.result()


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    if recipe.data.source_unit not in ("auto", "character", "word", "word+character"):
        what = f"data.source_unit: tags belong to words or letters, not to units of '{recipe.data.source_unit}'"
        raise ConfigError(what, hint="character, word or word+character")
    if recipe.model.crf:
        who, hint = "tags that are chosen together", "leave it out, or set model.crf = false"
        refuse_unused(recipe, OF_STEPS, who, hint)
        if recipe.train.supervise not in ("auto", 1):  # a run's own recipe says 1
            raise ConfigError(f"train.supervise says nothing to {who}", hint=hint)
    words, tags = tag_columns(tables[0], recipe.data.inputs, recipe.data.target)
    if words:
        d = recipe.data
        found: dict[str, Any] = {"inputs": [words]}
        if d.source_unit == "auto" and are_letters(tables[0], words, tags):
            found["source_unit"] = "character"
            say(f"each letter of '{words}' has a letter of '{tags}' for its tag")
        recipe = recipe.model_copy(update={"data": d.model_copy(update=found)})
    return labelled.prepare(recipe, tables, cells, TagNames(tags, chain=recipe.model.crf), lambda _: "word+character")


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Labelled:
    return labelled.restore(recipe, saved, file, cells, TagNames)
