"""Regress: a text, a molecule, a series or a row in, one number out; or, with `model.pooling = "none"`, one for each
step (system identification: a series that drives another).

read         a column of numbers beside a column of text (a SMILES string, say), columns of numbers, or lists of them
model        a stack of recurrences, pooled over time (`cells.pool`) where a sequence has one number, with a linear
             readout
baseline     the mean
metrics      rmse, mae, r2
predictions  the number; or a row a step
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from clew.config import Recipe
from clew.data.inputs import Input, NumberInput, TextInput
from clew.data.lists import sequences
from clew.data.series import Scaler
from clew.data.table import Table, column_name, guess_target, numeric
from clew.errors import ConfigError, DataError
from clew.metrics import Numbers
from clew.models import Head
from clew.models.heads.numbers import NumberHead
from clew.tasks import labelled
from clew.tasks.answers import Answers
from clew.tasks.base import Cells, Job, all_but
from clew.tasks.classify import unit
from clew.tasks.labelled import Labelled
from clew.tasks.plain import Says, unscaled
from clew.tasks.records import Record

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 96, "dropout": 0.1},
    "train": {"epochs": 60, "lr": 3e-3, "patience": 12},
}
UNUSED = (*all_but("hear", "numbers", "mask"), "train.label_smoothing", "train.class_weights", "train.entropy_matching")


class Number(Answers):
    """One number for each sequence, standardised as those of the training part."""

    aligned = False

    def __init__(self, column: str, scaler: Scaler | None = None) -> None:
        super().__init__(column)
        self._scaler = scaler

    @property
    def size(self) -> int:
        return 1

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
                hint = "one number a sequence; for a number at each step --set pooling=none, or --task forecast"
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

    def plain(self) -> tuple[list[str], Says]:
        return [self.column], unscaled(self.scaler)

    def sizes(self) -> list[float]:
        return self.scaler.std.tolist()

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


class NumberOfSteps(Number):
    """One number for each step of a sequence, standardised as those of the training part."""

    aligned = True

    def read(self, table: Table, source: Input) -> list[np.ndarray]:
        if isinstance(source, NumberInput) and source.layout == "steps":
            values = numeric(table, self.column)
            return [values[rows] for rows in source.rows(table)]
        found, raws = sequences(table, [self.column]), source.read(table)
        for values, raw, row in zip(found, raws, table.lines, strict=True):
            if values.shape != (len(raw), 1):
                what = f"{len(values)} numbers for {len(raw)} {'words' if isinstance(source, TextInput) else 'steps'}"
                hint = "each step needs one number"
                raise DataError(what, file=table.name, row=row, column=self.column, hint=hint)
        return [values[:, 0] for values in found]

    def fit(self, train: Sequence[Record]) -> NumberOfSteps:
        return NumberOfSteps(self.column, Scaler.fit(np.concatenate([record.answer for record in train])[:, None]))

    def encode(self, record: Record, steps: int) -> np.ndarray:
        return self.scaler.apply(record.answer[:, None]).astype(np.float32)

    def score(self, predicted: Sequence[np.ndarray], records: Sequence[Record]) -> dict[str, float]:
        return self._score(records, self.scaler.invert(np.concatenate(predicted))[:, 0])

    def baseline(self, records: Sequence[Record]) -> dict[str, dict[str, float]]:
        steps = sum(len(record.answer) for record in records)
        return {"mean": self._score(records, np.full(steps, self.scaler.mean[0]))}

    def _score(self, records: Sequence[Record], predicted: np.ndarray) -> dict[str, float]:
        metric = Numbers()
        metric.update(np.concatenate([record.answer for record in records]), predicted)
        return metric.result()


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    column = column_name(tables[0], recipe.data.target) if recipe.data.target else guess_target(tables[0])
    if recipe.model.pooling == "none" and recipe.data.channels:
        raise ConfigError("data.channels says nothing where a row is a step", hint="leave it out")
    return labelled.prepare(recipe, tables, cells, _kind(recipe)(column), unit)


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Labelled:
    return labelled.restore(recipe, saved, file, cells, _kind(recipe))


def _kind(recipe: Recipe) -> type[Number]:
    return NumberOfSteps if recipe.model.pooling == "none" else Number
