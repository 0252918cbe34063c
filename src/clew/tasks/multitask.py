"""Multitask: several answers to one input, from one body with a head for each.

read         several columns: labels, numbers, tags of words; a cell may be empty, others of its row are learned from
model        a stack of recurrences; tags read it at each step, all others what is pooled over time; their losses are
             weighed as `train.task_weights` says
baseline     naive: of each column that of its own task
metrics      error, the mean of what each column's task wants low; exact, the share of records in which every label and
             tag that is known is right; the means over columns of one kind; of each column what its own task has
predictions  the columns of each task
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from clew.cells import POOLS, Encoder, Parallel, Pointwise, Recurrence, Stack
from clew.config import Recipe
from clew.data import inputs
from clew.data.inputs import Input, NumberInput
from clew.data.table import Table, column_name, holds_something, kind
from clew.errors import ConfigError, DataError, did_you_mean
from clew.models import Head, SequenceHead, Single
from clew.models.heads.shared import Reads, SharedHead, SharedSequenceHead
from clew.tasks import classify, guess, labelled
from clew.tasks.answers import Answers, ClassAnswers
from clew.tasks.base import Cells, Job, all_but, refuse_unused, say
from clew.tasks.classify import Labels
from clew.tasks.labelled import Labelled
from clew.tasks.plain import Says
from clew.tasks.records import Record
from clew.tasks.regress import Number, NumberOfSteps
from clew.tasks.tag import OF_STEPS, TagNames

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 128, "dropout": 0.3},
    "train": {"epochs": 30, "lr": 3e-3, "patience": 8},
}
UNUSED = (*all_but("hear", "numbers", "mask", "tag", "multitask"), "data.target")
KINDS: dict[str, type[Answers]] = {"label": Labels, "number": Number, "numbers": NumberOfSteps, "tags": TagNames}


class Several(Answers):
    """The answers of several columns; a record's is a tuple of theirs, None where a cell is empty."""

    def __init__(self, parts: Sequence[Answers]) -> None:
        super().__init__(", ".join(part.column for part in parts))
        self.parts = list(parts)
        self.aligned = any(part.aligned for part in parts)

    @property
    def targets(self) -> list[str]:
        return [part.column for part in self.parts]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def read(self, table: Table, source: Input) -> list[tuple[Any, ...]]:
        columns: list[list[Any]] = []
        for part in self.parts:
            if isinstance(source, NumberInput) and source.layout == "steps":  # a record is many rows
                columns.append(part.read(table, source))
                continue
            there = np.flatnonzero(holds_something(table, part.column))
            column: list[Any] = [None] * table.rows
            some = table if len(there) == table.rows else table.take(there)
            for row, answer in zip(there, part.read(some, source) if len(there) else [], strict=True):
                column[row] = answer
            columns.append(column)
        return list(zip(*columns, strict=True))

    def fit(self, train: Sequence[Record]) -> Several:
        parts = []
        for i, part in enumerate(self.parts):
            _, own = self._own(i, train)
            if not own:
                what = "is empty in all rows of the training part"
                raise DataError(what, file=train[0].file, column=part.column, hint="leave out this --target")
            parts.append(part.fit(own))
        return Several(parts)

    def cut(self, answer: tuple[Any, ...], steps: slice) -> tuple[Any, ...]:
        return tuple(part.cut(own, steps) for part, own in zip(self.parts, answer, strict=True))

    def classes(self, answer: tuple[Any, ...]) -> Collection[Hashable]:
        pairs = zip(self.parts, answer, strict=True)
        return {(part.column, name) for part, own in pairs if own is not None for name in part.classes(own)}

    def encode(self, record: Record, steps: int) -> np.ndarray:
        """(T, K) numbers, those of classes too; NaN where missing, and for what is asked at the last step alone."""
        pairs = list(zip(self.parts, record.answer, strict=True))
        steps = next((len(own) for part, own in pairs if part.aligned and own is not None), steps)
        encoded = np.full((steps, len(pairs)), np.nan, np.float32)
        for i, (part, own) in enumerate(pairs):
            if own is not None:
                first = 0 if part.aligned == self.aligned else steps - 1
                encoded[first:, i] = part.encode(record._replace(answer=own), steps).reshape(steps)[first:]
        return encoded

    def model(self, body: Recurrence | Encoder, recipe: Recipe) -> Single:
        wide, pooling = body.output_size, recipe.model.pooling
        if self._pools and pooling == "none":
            raise ConfigError("model.pooling = none: some targets have one answer a sequence", hint="mean, max or last")
        if self._pools and pooling != "last":
            layers: list[Any] = [body, Parallel(Pointwise(nn.Identity(), wide), POOLS[pooling](wide))]
            body = Stack(*layers)  # an Encoder where it holds one
        elif self._pools and isinstance(body, Encoder):
            what = "the last step of a bidirectional model has read nothing of the rest backwards"
            raise ConfigError(what, hint="set model.pooling = mean, max or attention")
        return super().model(body, recipe)

    def head(self, width: int, recipe: Recipe) -> Head | SequenceHead:
        beside = self._pools and recipe.model.pooling != "last"
        half = width // 2 if beside else width
        reads, heads = [], []
        for i, part in enumerate(self.parts):
            first = half if beside and not part.aligned else 0
            counts = isinstance(part, ClassAnswers)
            reads.append(Reads(slice(first, first + half), slice(i, i + 1), counts))
            heads.append(part.head(half, recipe))
        joint = any(isinstance(head, SequenceHead) for head in heads)
        return (SharedSequenceHead if joint else SharedHead)(heads, reads, self._weights(recipe))

    def score(self, predicted: Sequence[np.ndarray], records: Sequence[Record]) -> dict[str, float]:
        right, found = np.ones(len(records), dtype=bool), []
        for i, part in enumerate(self.parts):
            which, own = self._own(i, records)
            mine = [self._part(i, predicted[k]) for k in which]
            found.append(part.score(mine, own) if own else {})
            if isinstance(part, ClassAnswers):
                right[which] &= np.array([part.is_right(y, r) for y, r in zip(mine, own, strict=True)], dtype=bool)
        classes = any(isinstance(part, ClassAnswers) for part in self.parts)
        return self._joined(found, {"exact": float(right.mean())} if classes else {})

    def baseline(self, records: Sequence[Record]) -> dict[str, dict[str, float]]:
        found = []
        for i, part in enumerate(self.parts):
            _, own = self._own(i, records)
            found.append(next(iter(part.baseline(own).values())) if own else {})
        return {"naive": self._joined(found, {})}

    def loss(self, metrics: dict[str, float]) -> float:
        return metrics["error"]

    def columns(self) -> list[str]:
        return [
            name if name == part.column else f"{part.column}.{name}" for part in self.parts for name in part.columns()
        ]

    def said(self, predicted: np.ndarray) -> list[Any]:
        return [cell for i, part in enumerate(self.parts) for cell in part.said(predicted[self._places(i)])]

    def plain(self) -> tuple[list[str], Says]:
        parts = [part.plain() for part in self.parts]
        names = [f"{part.column}.{n}" for part, (own, _) in zip(self.parts, parts, strict=True) for n in own]
        says = [(self._places(i), own) for i, (_, own) in enumerate(parts)]
        return names, lambda y: torch.cat([own(y[..., places]) for places, own in says], -1)

    def sizes(self) -> list[float]:
        return [size for part in self.parts for size in part.sizes()]

    def to_json(self) -> dict[str, Any]:
        kinds = {kind: name for name, kind in KINDS.items()}
        return {"parts": [{"kind": kinds[type(part)], **part.to_json()} for part in self.parts]}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        return cls([KINDS[part["kind"]].from_json(part) for part in saved["parts"]])

    def settled(self, predicted: np.ndarray) -> np.ndarray:
        """Predictions (T, P) of a whole sequence: what is asked once is answered at its end."""
        for i, part in enumerate(self.parts):
            if self.aligned and not part.aligned:
                predicted[:, self._places(i)] = predicted[-1, self._places(i)]
        return predicted

    @property
    def _pools(self) -> bool:
        return self.aligned and not all(part.aligned for part in self.parts)

    def _own(self, i: int, records: Sequence[Record]) -> tuple[list[int], list[Record]]:
        """The records that have an answer in one column: their numbers, and they with that alone."""
        which = [k for k, record in enumerate(records) if record.answer[i] is not None]
        return which, [records[k]._replace(answer=records[k].answer[i]) for k in which]

    def _places(self, i: int) -> slice:
        first = sum(part.size for part in self.parts[:i])
        return slice(first, first + self.parts[i].size)

    def _part(self, i: int, predicted: np.ndarray) -> np.ndarray:
        """What one column is predicted to be: (P,), or (T, P) where it is aligned."""
        own = predicted[..., self._places(i)]
        return own[-1] if self.aligned and not self.parts[i].aligned else own

    def _joined(self, found: Sequence[dict[str, float]], also: dict[str, float]) -> dict[str, float]:
        pairs = [(part, metrics) for part, metrics in zip(self.parts, found, strict=True) if metrics]
        losses = [part.loss(metrics) / _unit_of(part) for part, metrics in pairs]
        means = {}
        if len({type(part) for part in self.parts}) == 1:
            for name in dict.fromkeys(name for _, metrics in pairs for name in metrics):
                means[name] = float(np.mean([metrics[name] for _, metrics in pairs if name in metrics]))
        each = {f"{part.column}.{name}": value for part, metrics in pairs for name, value in metrics.items()}
        return {"error": float(np.mean(losses)) if losses else 0.0, **also, **means, **each}

    def _weights(self, recipe: Recipe) -> list[float] | None:
        given = recipe.train.task_weights
        if given == "uncertainty":
            return None
        chosen = {} if isinstance(given, str) else given
        for name in chosen:
            if name not in self.targets:
                raise ConfigError(f"train.task_weights: no target '{name}'", hint=did_you_mean(name, self.targets))
        return [chosen.get(name, 1.0) for name in self.targets]


class Shared(Labelled):
    """A trained model with several heads; see `Several`."""

    answers: Several

    def outputs(self, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self.answers.settled(y) for y in super().outputs(xs)]


def _unit_of(part: Answers) -> float:
    return float(part.scaler.std[0]) if isinstance(part, Number) else 1.0


def _kind(table: Table, column: str, words: str) -> str:
    """What the cells of a target are, where the recipe does not say."""
    if guess.are_tags(table, words, column):
        return "tags"
    if kind(table, column) == "numbers":
        return "numbers"
    return "number" if guess.is_measured(table, column) else "label"


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    d, table = recipe.data, tables[0]
    targets = [column_name(table, name) for name in d.targets]
    if len(set(targets)) < 2:
        hint = "name each with --target; for one alone use --task classify, regress or tag"
        raise ConfigError("a multitask run has two or more different targets", hint=hint)
    said = {column_name(table, name): what for name, what in d.target_kinds.items()}
    for name in said:
        if name not in targets:
            raise ConfigError(f"data.target_kinds: no target '{name}'", hint=did_you_mean(name, targets))
    beside = [*targets, *([column_name(table, d.group)] if d.group else [])]
    source = inputs.find(table, d.inputs, beside, d)
    kinds = {name: said.get(name) or _kind(table, name, source.columns[0]) for name in targets}
    say("targets: " + ", ".join(f"'{name}' ({what})" for name, what in kinds.items()))
    aligned = bool({"tags", "numbers"} & set(kinds.values()))
    if recipe.model.pooling == "none" and not aligned:
        hint = "say which, as in data.target_kinds = { y = 'numbers' }; or pool by mean, max or attention"
        raise ConfigError("model.pooling = none: no target has an answer for each step", hint=hint)
    if recipe.model.crf and "tags" not in kinds.values():
        raise ConfigError("model.crf says nothing where no target holds tags", hint="leave it out")
    if recipe.model.crf and set(kinds.values()) == {"tags"}:
        refuse_unused(recipe, OF_STEPS, "tags that are chosen together", "leave it out, or set model.crf = false")
    if recipe.model.crf and (recipe.train.window or recipe.train.stride):
        raise ConfigError("tags that are chosen together are learned whole", hint="leave out train.window")
    parts: list[Answers] = []
    for name, what in kinds.items():
        parts.append(TagNames(name, chain=recipe.model.crf) if what == "tags" else KINDS[what](name))
    recipe = recipe.model_copy(update={"data": d.model_copy(update={"target_kinds": kinds, "targets": targets})})
    unit = (lambda _: "word+character") if aligned else classify.unit
    return labelled.prepare(recipe, tables, cells, Several(parts), unit, Shared)


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Labelled:
    return labelled.restore(recipe, saved, file, cells, Several, Shared)
