"""Classify: a text, a series or a row in, one of K labels out.

read         a column of labels beside a column of text, columns of numbers, or lists of them
model        a stack of recurrences, pooled over time (`cells.pool`), with a softmax
baseline     the commonest label
metrics      accuracy, macro_f1, nll (nats)
predictions  the likeliest label and the probability of each
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clew.config import Recipe
from clew.data.inputs import Input, NumberInput
from clew.data.table import Table, column_name, labels
from clew.errors import ConfigError, DataError
from clew.metrics import Classes
from clew.tasks import labelled
from clew.tasks.answers import ClassAnswers
from clew.tasks.base import Cells, Job, all_but
from clew.tasks.guess import label_column
from clew.tasks.labelled import Labelled
from clew.tasks.records import Record

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 96, "dropout": 0.3},
    "train": {"epochs": 30, "lr": 3e-3, "patience": 8},
}
UNUSED = all_but("hear", "numbers", "mask")


class Labels(ClassAnswers):
    """One of K names for each sequence."""

    aligned, what = False, "label"

    def read(self, table: Table, source: Input) -> list[str]:
        cells = labels(table, self.column)
        if not isinstance(source, NumberInput):
            return cells
        found = []
        for rows in source.rows(table):
            for row in rows:
                if cells[row] != cells[rows[0]]:
                    what = f"'{cells[row]}', where the sequence began with '{cells[rows[0]]}'"
                    hint = "one label a sequence; for a label at each step use --task tag"
                    raise DataError(what, file=table.name, row=table.lines[row], column=self.column, hint=hint)
            found.append(cells[rows[0]])
        return found

    def fit(self, train: Sequence[Record]) -> Labels:
        names, counts = np.unique([record.answer for record in train], return_counts=True)
        if len(names) < 2:
            what = f"every row of the training part is '{names[0]}': there is nothing to tell apart"
            raise DataError(what, file=train[0].file, column=self.column, hint="choose another --target")
        return Labels(self.column, [str(name) for name in names], counts.tolist())

    def classes(self, answer: str) -> list[str]:
        return [answer]

    def encode(self, record: Record, steps: int) -> np.ndarray:
        return np.full(steps, self.number(record.answer, record), dtype=np.int32)

    def is_right(self, predicted: np.ndarray, record: Record) -> bool:
        return self.names[int(predicted.argmax())] == record.answer

    def score(self, predicted: Sequence[np.ndarray], records: Sequence[Record]) -> dict[str, float]:
        metric = Classes(len(self.names))
        metric.update(self._truth(records), np.exp(np.stack(predicted)))
        return metric.result()

    def baseline(self, records: Sequence[Record]) -> dict[str, dict[str, float]]:
        metric = Classes(len(self.names))
        share = np.tile(self.counts / self.counts.sum(), (len(records), 1))
        metric.update(self._truth(records), share)
        return {"majority": metric.result()}

    def loss(self, metrics: dict[str, float]) -> float:
        """The error; between equal ones the surer is better."""
        return 1 - metrics["accuracy"] + 1e-3 * min(metrics["nll"], 10.0)

    def columns(self) -> list[str]:
        return [self.column, "probability", *(f"p({name})" for name in self.names)]

    def said(self, predicted: np.ndarray) -> list[Any]:
        probabilities, best = np.exp(predicted), int(predicted.argmax())
        return [self.names[best], float(probabilities[best]), *probabilities.tolist()]

    def _truth(self, records: Sequence[Record]) -> np.ndarray:
        return np.array([self.index[record.answer] for record in records])


def unit(texts: Sequence[Any]) -> str:
    """Words where a text holds several, else characters."""
    if isinstance(texts[0], list):
        return "word"
    return "word" if np.mean([len(text.split()) for text in texts[:1000]]) >= 2 else "character"


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    column = column_name(tables[0], recipe.data.target) if recipe.data.target else label_column(tables[0])
    if recipe.model.pooling == "none":
        raise ConfigError("model.pooling = none: a label for each step is --task tag", hint="mean, max or attention")
    return labelled.prepare(recipe, tables, cells, Labels(column), unit)


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Labelled:
    return labelled.restore(recipe, saved, file, cells, Labels)
