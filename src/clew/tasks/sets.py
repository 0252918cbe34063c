"""Set: a sequence in, several things out that have no order: labels that hold together, numbers, places.

read         a column of lists beside an input of any kind: of texts (or one text with blanks between), of numbers, or
             of lists of as many numbers each; a list may be empty
model        a stack of recurrences, pooled over time; of texts the probability of each, of numbers slots that are
             matched with the elements (`train.set_loss`)
baseline     texts: those that are more often there than not; numbers: a set of mean size at the mean of all elements
metrics      matched_error; of texts precision, recall and exact, of numbers count (`metrics.sets`)
predictions  the set, as JSON; of texts the probability of each too
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from clew.config import Recipe
from clew.data.inputs import Input
from clew.data.lists import lists_of_steps, lists_of_texts
from clew.data.series import Scaler
from clew.data.table import Table, column_name, kind
from clew.errors import ConfigError, DataError, read_back
from clew.metrics import MatchedSets, NamedSets
from clew.models import Head
from clew.models.heads.binary import BinaryHead
from clew.models.heads.slots import LOSSES, SlotHead
from clew.tasks import labelled
from clew.tasks.answers import Answers
from clew.tasks.base import Cells, Job, all_but
from clew.tasks.classify import unit
from clew.tasks.labelled import Labelled
from clew.tasks.plain import Says, unscaled
from clew.tasks.records import Record

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 96, "dropout": 0.1},
    "train": {"epochs": 40, "lr": 3e-3, "patience": 10},
}
UNUSED = (
    *all_but("hear", "numbers", "mask", "set"),
    *("data.group", "train.label_smoothing", "train.class_weights", "train.entropy_matching"),
)
MOST = 1000  # elements of a set, and different names


class Names(Answers):
    """A set of names, each there or not; `counts` (K,) are those of the training part, of `records`."""

    aligned = False

    def __init__(self, column: str, names: Sequence[str] = (), counts: Sequence[int] = (), records: int = 0) -> None:
        super().__init__(column)
        self.names, self.counts, self.records = list(names), np.array(counts, dtype=np.int64), records
        self.index = {name: i for i, name in enumerate(self.names)}

    @property
    def size(self) -> int:
        return len(self.names)

    def read(self, table: Table, source: Input) -> list[list[str]]:
        return lists_of_texts(table, self.column)

    def fit(self, train: Sequence[Record]) -> Names:
        found = sorted({name for record in train for name in record.answer})
        if not found or len(found) > MOST:
            what = f"holds {len(found):,} different names, where 1 to {MOST:,} are meant"
            raise DataError(what, file=train[0].file, column=self.column, hint="choose another --target")
        counts = [sum(name in record.answer for record in train) for name in found]
        return Names(self.column, found, counts, len(train))

    def classes(self, answer: list[str]) -> set[str]:
        return set(answer)

    def encode(self, record: Record, steps: int) -> np.ndarray:
        there = np.zeros(len(self.names), np.float32)
        for name in record.answer:
            if name not in self.index:
                what = f"'{name}' does not occur in the training part"
                raise DataError(what, file=record.file, row=record.row, column=self.column, hint="drop it, or the row")
            there[self.index[name]] = 1.0
        return np.broadcast_to(there, (steps, len(there)))

    def head(self, width: int, recipe: Recipe) -> Head:
        shares = torch.from_numpy(self.counts / max(1, self.records)).float()
        return BinaryHead(width, shares, recipe.model.dropout)

    def score(self, predicted: Sequence[np.ndarray], records: Sequence[Record]) -> dict[str, float]:
        return self._score([self._found(y > 0) for y in predicted], records)

    def baseline(self, records: Sequence[Record]) -> dict[str, dict[str, float]]:
        usual = self._found(2 * self.counts > self.records)
        return {"usual": self._score([usual] * len(records), records)}

    def loss(self, metrics: dict[str, float]) -> float:
        return metrics["matched_error"]

    def columns(self) -> list[str]:
        return [self.column, *(f"p({name})" for name in self.names)]

    def said(self, predicted: np.ndarray) -> list[Any]:
        return [json.dumps(self._found(predicted > 0)), *(1 / (1 + np.exp(-predicted))).tolist()]

    def plain(self) -> tuple[list[str], Says]:
        return [f"p({name})" for name in self.names], torch.sigmoid

    def to_json(self) -> dict[str, Any]:
        return {"column": self.column, "names": self.names, "counts": self.counts.tolist(), "records": self.records}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        names, counts = [str(name) for name in saved["names"]], [int(n) for n in saved["counts"]]
        if not 1 <= len(names) <= MOST or len(set(names)) != len(names) or len(names) != len(counts):
            raise ValueError("as many counts as different names")
        return cls(str(saved["column"]), names, counts, int(saved["records"]))

    def _found(self, there: np.ndarray) -> list[str]:
        return [self.names[i] for i in np.flatnonzero(there)]

    def _score(self, found: Sequence[Sequence[str]], records: Sequence[Record]) -> dict[str, float]:
        metric = NamedSets()
        for names, record in zip(found, records, strict=True):
            metric.update(record.answer, names)
        return metric.result()


class Elements(Answers):
    """A set of vectors (N, D), standardised as those of the training part; `slots` is the most that one may have."""

    aligned = False

    def __init__(self, column: str, loss: str, slots: int = 0, usual: int = 0, scaler: Scaler | None = None) -> None:
        super().__init__(column)
        self.kind, self.slots, self.usual, self._scaler = loss, slots, usual, scaler

    @property
    def scaler(self) -> Scaler:
        assert self._scaler is not None, "fit comes first"
        return self._scaler

    @property
    def numbers(self) -> int:
        return len(self.scaler.mean)

    @property
    def size(self) -> int:
        return self.slots * (self.numbers + 1)

    def read(self, table: Table, source: Input) -> list[np.ndarray]:
        return lists_of_steps(table, self.column)

    def fit(self, train: Sequence[Record]) -> Elements:
        most = max(len(record.answer) for record in train)
        if not 1 <= most <= MOST:
            what = f"holds sets of up to {most:,} elements, where 1 to {MOST:,} are meant"
            raise DataError(what, file=train[0].file, column=self.column, hint="choose another --target")
        widths = {record.answer.shape[1]: record for record in train if len(record.answer)}
        if len(widths) > 1:
            worst = widths[max(widths)]
            what = f"elements of {max(widths)} numbers, where others have {min(widths)}"
            raise DataError(what, file=worst.file, row=worst.row, column=self.column, hint="write as many in each")
        usual = round(float(np.mean([len(record.answer) for record in train])))
        scaler = Scaler.fit(np.concatenate([record.answer for record in train if len(record.answer)]))
        return Elements(self.column, self.kind, most, usual, scaler)

    def encode(self, record: Record, steps: int) -> np.ndarray:
        if len(record.answer) > self.slots:
            what = f"{len(record.answer)} elements, where no set of the training part has more than {self.slots}"
            raise DataError(what, file=record.file, row=record.row, column=self.column, hint="drop the row")
        if len(record.answer) and record.answer.shape[1] != self.numbers:
            what = f"elements of {record.answer.shape[1]} numbers, where the others have {self.numbers}"
            raise DataError(what, file=record.file, row=record.row, column=self.column, hint="write as many in each")
        padded = np.full((self.slots, self.numbers), np.nan, np.float32)
        if len(record.answer):
            padded[: len(record.answer)] = self.scaler.apply(record.answer)
        return np.broadcast_to(padded.reshape(-1), (steps, padded.size))

    def head(self, width: int, recipe: Recipe) -> Head:
        return SlotHead(width, self.slots, self.numbers, self.kind, recipe.model.dropout)

    def score(self, predicted: Sequence[np.ndarray], records: Sequence[Record]) -> dict[str, float]:
        return self._score([self._elements(y) for y in predicted], records)

    def baseline(self, records: Sequence[Record]) -> dict[str, dict[str, float]]:
        return {"mean": self._score([np.tile(self.scaler.mean, (self.usual, 1))] * len(records), records)}

    def loss(self, metrics: dict[str, float]) -> float:
        """The error in units of a deviation, and how often the number of elements is wrong."""
        return metrics["matched_error"] / float(np.linalg.norm(self.scaler.std)) + 0.1 * (1 - metrics["count"])

    def columns(self) -> list[str]:
        return [self.column]

    def said(self, predicted: np.ndarray) -> list[Any]:
        found = self._elements(predicted)
        return [json.dumps(found[:, 0].tolist() if self.numbers == 1 else found.tolist())]

    def plain(self) -> tuple[list[str], Says]:
        """Of each slot its vector and the probability that it is used."""
        parts = [*(f"number {i + 1}" for i in range(self.numbers)), "used"]
        raw, D = unscaled(self.scaler), self.numbers

        def says(y: torch.Tensor) -> torch.Tensor:
            slots_BSP = y.unflatten(-1, (self.slots, D + 1))
            return torch.cat([raw(slots_BSP[..., :D]), torch.sigmoid(slots_BSP[..., D:])], -1).flatten(-2)

        return [f"slot {s + 1} {part}" for s in range(self.slots) for part in parts], says

    def to_json(self) -> dict[str, Any]:
        fixed = {"column": self.column, "loss": self.kind, "slots": self.slots, "usual": self.usual}
        return {**fixed, "scaler": self.scaler.to_json()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        slots, usual = int(saved["slots"]), int(saved["usual"])
        if not 0 <= usual <= slots <= MOST or not slots or saved["loss"] not in LOSSES:
            raise ValueError("a number of slots and a loss")
        return cls(str(saved["column"]), str(saved["loss"]), slots, usual, Scaler.from_json(saved["scaler"]))

    def _elements(self, predicted: np.ndarray) -> np.ndarray:
        """Those of the used slots, (N, D), in a steady order: the smallest first."""
        slots = predicted.reshape(self.slots, self.numbers + 1)
        found = self.scaler.invert(slots[slots[:, -1] > 0, :-1])
        return found[np.lexsort(found.T[::-1])]

    def _score(self, found: Sequence[np.ndarray], records: Sequence[Record]) -> dict[str, float]:
        metric = MatchedSets()
        for elements, record in zip(found, records, strict=True):
            metric.update(record.answer.reshape(-1, self.numbers), elements)
        if not metric.pairs:  # as far off as the mean would be
            return {**metric.result(), "matched_error": float(np.linalg.norm(self.scaler.std))}
        return metric.result()


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    column = _column(recipe, tables[0])
    if recipe.model.pooling == "none":
        raise ConfigError("model.pooling = none: a set belongs to a whole sequence", hint="mean, max or attention")
    answers: Answers = Elements(column, recipe.train.set_loss)
    if kind(tables[0], column) in ("text", "texts"):
        if recipe.train.set_loss != "matching":
            raise ConfigError("train.set_loss says nothing to sets of names", hint="leave it out")
        answers = Names(column)
    return labelled.prepare(recipe, tables, cells, answers, unit)


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Labelled:
    with read_back(file):
        kind_of = Names if "names" in saved["answers"] else Elements
    return labelled.restore(recipe, saved, file, cells, kind_of)


def _column(recipe: Recipe, table: Table) -> str:
    """The column of sets: one that is called so, or else the last of lists."""
    if recipe.data.target:
        return column_name(table, recipe.data.target)
    lists = [name for name in table.columns if kind(table, name) in ("texts", "numbers", "vectors")]
    named = [name for name in lists if name.strip().lower() in ("set", "sets", "labels", "tags", "targets")]
    if not lists:
        raise DataError("no column of lists", file=table.name, hint="name the column of sets with --target")
    return (named or lists)[-1]
