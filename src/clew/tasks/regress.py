"""Regress: a text, a molecule, a series or a row in, one number out.

read         a column of numbers beside a column of text (a SMILES string, say), columns of numbers, or lists of them
model        a stack of recurrences, pooled over time (`cells.pool`), with a linear readout
baseline     the mean
metrics      rmse, mae, r2
predictions  the number
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from clew.config import Recipe
from clew.data.inputs import Input, NumberInput
from clew.data.series import Scaler
from clew.data.table import Table, column_name, guess_target, numeric
from clew.errors import DataError
from clew.metrics import Numbers
from clew.models import Head
from clew.models.heads.numbers import NumberHead
from clew.tasks import labelled
from clew.tasks.answers import Answers
from clew.tasks.base import Cells, Job, all_but
from clew.tasks.classify import unit
from clew.tasks.labelled import Labelled
from clew.tasks.records import Record

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 96, "dropout": 0.1},
    "train": {"epochs": 60, "lr": 3e-3, "patience": 12},
}
UNUSED = (*all_but("hear"), "train.label_smoothing", "train.class_weights", "train.entropy_matching")


class Number(Answers):
    """One number for each sequence, standardised as those of the training part."""

    aligned = False

    def __init__(self, column: str, scaler: Scaler | None = None) -> None:
        super().__init__(column)
        self._scaler = scaler

    @property
    def scaler(self) -> Scaler:
        assert self._scaler is not None, "fit comes first"
        return self._scaler

    def read(self, table: Table, source: Input) -> list[float]:
        values = numeric(table, self.column)
        if not isinstance(source, NumberInput):
            return values.tolist()
        found = []
        for rows in source.rows(table):
            if (other := rows[values[rows] != values[rows[0]]]).size:
                what = f"{values[other[0]]:g}, where the sequence began with {values[rows[0]]:g}"
                hint = "one number a sequence; for a number at each step use --task forecast"
                raise DataError(what, file=table.name, row=table.lines[other[0]], column=self.column, hint=hint)
            found.append(float(values[rows[0]]))
        return found

    def fit(self, train: Sequence[Record]) -> Number:
        return Number(self.column, Scaler.fit(np.array([[record.answer] for record in train])))

    def encode(self, record: Record, steps: int) -> np.ndarray:
        return np.tile(self.scaler.apply(np.array([record.answer])), (steps, 1)).astype(np.float32)

    def head(self, width: int, recipe: Recipe) -> Head:
        return NumberHead(width, 1, recipe.model.dropout)

    def score(self, predicted: Sequence[np.ndarray], records: Sequence[Record]) -> dict[str, float]:
        return self._score(records, self.scaler.invert(np.stack(predicted))[:, 0])

    def baseline(self, records: Sequence[Record]) -> dict[str, dict[str, float]]:
        return {"mean": self._score(records, np.full(len(records), self.scaler.mean[0]))}

    def loss(self, metrics: dict[str, float]) -> float:
        return metrics["rmse"]

    def columns(self) -> list[str]:
        return [self.column]

    def said(self, predicted: np.ndarray) -> list[Any]:
        return self.scaler.invert(predicted).tolist()

    def to_json(self) -> dict[str, Any]:
        return {"column": self.column, "scaler": self.scaler.to_json()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        scaler = Scaler.from_json(saved["scaler"])
        if len(scaler.mean) != 1:
            raise ValueError("one mean")
        return cls(str(saved["column"]), scaler)

    def _score(self, records: Sequence[Record], predicted: np.ndarray) -> dict[str, float]:
        metric = Numbers()
        metric.update(np.array([record.answer for record in records]), predicted)
        return metric.result()


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    column = column_name(tables[0], recipe.data.target) if recipe.data.target else guess_target(tables[0])
    return labelled.prepare(recipe, tables, cells, Number(column), unit)


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Labelled:
    return labelled.restore(recipe, saved, file, cells, Number)
