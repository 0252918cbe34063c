"""Detect: when something happens, in sequences where it mostly does not.

read         as `tag`: a label for each step; an event begins where the label becomes the event's, and is that step
model        a stack of recurrences, the probability of an event at each step, and the peaks of it (`models.detector`)
baseline     events as often as in training, evenly spread
metrics      f1, precision, recall of events within `data.tolerance` steps; delay, the mean steps that they are late
predictions  a row a step: 1 where an event is found, and its probability

What is learned is 1 at an event and falls to 0 over `data.tolerance` + 1 steps on both sides. In a stream the answer to
a step comes `data.tolerance` steps later (`steps_ago`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from clew.cells import Encoder, Recurrence
from clew.config import Recipe
from clew.data.inputs import Input
from clew.data.table import Table
from clew.errors import DataError
from clew.metrics import Events
from clew.metrics.events import matched
from clew.models import Head, Single
from clew.models.detector import Detector
from clew.models.heads.events import EventHead
from clew.models.peaks import Peaks
from clew.tasks import labelled
from clew.tasks.answers import Answers
from clew.tasks.base import Cells, Heard, Job, all_but
from clew.tasks.guess import tag_columns
from clew.tasks.labelled import Labelled
from clew.tasks.plain import Says
from clew.tasks.records import Record, labels_of_steps

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 64, "dropout": 0.2},
    "train": {"epochs": 30, "lr": 3e-3, "patience": 8},
}
UNUSED = (
    *all_but("detect", "numbers", "mask"),
    "data.channels",
    "model.pooling",
    "train.label_smoothing",
    "train.entropy_matching",
)
LONGEST = 10_000  # steps of a tolerance: what a file may ask memory for
TRIED = 200  # thresholds


class EventTimes(Answers):
    """When the label of a sequence becomes that of the event.

    Args:
        event: the label; "" as long as it is to be found.
        rate: events a step, in the training part.
        threshold: the least probability of one; None for the best on the validation part.
    """

    aligned = True

    def __init__(
        self, column: str, tolerance: int, event: str = "", rate: float = 0.0, threshold: float | None = None
    ) -> None:
        super().__init__(column)
        self.tolerance, self.event, self.rate, self.threshold = tolerance, event, rate, threshold

    @property
    def size(self) -> int:
        return 2

    def read(self, table: Table, source: Input) -> list[list[str]]:
        return labels_of_steps(table, source, self.column)

    def fit(self, train: Sequence[Record]) -> EventTimes:
        counts = Counter(label for record in train for label in record.answer)
        event = self.event
        if not event and len(counts) != 2:
            what = f"holds {len(counts)} different values, where an event has two"
            hint = "name the event's with --set data.event=VALUE, or another --target"
            raise DataError(what, file=train[0].file, column=self.column, hint=hint)
        event = event or min(counts, key=lambda label: (counts[label], label))
        if not counts[event]:
            shown = ", ".join(sorted(counts)[:8])
            what = f"never holds '{event}' in the training part"
            raise DataError(what, file=train[0].file, column=self.column, hint=f"known: {shown}")
        found = EventTimes(self.column, self.tolerance, event, threshold=self.threshold)
        found.rate = sum(len(found.times(r)) for r in train) / sum(len(r.answer) for r in train)
        if not found.rate:
            what = f"is '{event}' from the first step on: nothing begins"
            raise DataError(what, file=train[0].file, column=self.column, hint="name another --set data.event=VALUE")
        return found

    def times(self, record: Record) -> list[int]:
        """The steps, from 0, at which events begin; not the first, of which nobody knows whether it does."""
        is_event = np.array([label == self.event for label in record.answer])
        return (np.flatnonzero(is_event[1:] & ~is_event[:-1]) + 1).tolist()

    def encode(self, record: Record, steps: int) -> np.ndarray:
        target, reach = np.zeros((len(record.answer), 1), np.float32), self.tolerance
        for t in self.times(record):
            first, last = max(0, t - reach), min(len(target), t + reach + 1)
            near = 1 - np.abs(np.arange(first, last) - t) / (reach + 1)
            target[first:last, 0] = np.maximum(target[first:last, 0], near)
        return target

    def head(self, width: int, recipe: Recipe) -> Head:
        share = min(0.5, self.rate * (self.tolerance + 1))  # the targets' mean, if no two meet
        weight = (1 - share) / share if recipe.train.class_weights == "balanced" else 1.0
        return EventHead(width, share, weight, recipe.train.focal, recipe.model.dropout)

    def model(self, body: Recurrence | Encoder, recipe: Recipe) -> Single:
        head, peaks = self.head(body.output_size, recipe), Peaks(self.tolerance)
        if self.threshold is not None:
            peaks.threshold.fill_(self.threshold)
        return Detector(body, head, peaks)  # pyright: ignore[reportArgumentType]

    def score(self, predicted: Sequence[np.ndarray], records: Sequence[Record]) -> dict[str, float]:
        return self._score([np.flatnonzero(y[:, 1]).tolist() for y in predicted], records)

    def baseline(self, records: Sequence[Record]) -> dict[str, dict[str, float]]:
        apart = max(1, round(1 / self.rate))
        even = [list(range(apart // 2, len(record.answer), apart)) for record in records]
        return {"even": self._score(even, records)}

    def loss(self, metrics: dict[str, float]) -> float:
        return 1 - metrics["f1"]

    def columns(self) -> list[str]:
        return [self.column, "probability"]

    def said(self, predicted: np.ndarray) -> list[Any]:
        return [int(predicted[1]), float(predicted[0])]

    def plain(self) -> tuple[list[str], Says]:
        return [f"p({self.event})", f"{self.event} {self.tolerance} steps ago"], lambda y: y

    def to_json(self) -> dict[str, Any]:
        return {
            **{"column": self.column, "tolerance": self.tolerance, "event": self.event},
            **{"rate": self.rate, "threshold": self.threshold},
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        tolerance, rate, threshold = int(saved["tolerance"]), float(saved["rate"]), saved["threshold"]
        if not (0 <= tolerance <= LONGEST and 0 < rate < 1 and (threshold is None or 0 < threshold < 1)):
            raise ValueError("a tolerance, a rate of events and a threshold")
        return cls(str(saved["column"]), tolerance, str(saved["event"]), rate, threshold)

    def _score(self, found: Sequence[Sequence[int]], records: Sequence[Record]) -> dict[str, float]:
        metric = Events(self.tolerance)
        for steps, record in zip(found, records, strict=True):
            metric.update(self.times(record), steps)
        return metric.result()


class Alarm(Labelled):
    """A trained model of events; see `EventTimes`."""

    model: Detector
    answers: EventTimes

    def outputs(self, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Of each sequence (T, 2): the probability of an event, and whether there is one at that very step."""
        return [self._placed(y[:, 0]) for y in super().outputs(xs)]

    def validate(self, records: Sequence[Record]) -> dict[str, float]:
        """Settles the threshold, where it is open."""
        predicted = super().outputs([self.encode(record) for record in records])
        if self.answers.threshold is None:
            self.model.peaks.threshold.fill_(self._best([y[:, 0] for y in predicted], records))
        return self.answers.score([self._placed(y[:, 0]) for y in predicted], records)

    def told(self, record: Record, y: np.ndarray) -> tuple[str, str]:
        """The steps, from 1, at which events begin."""
        true, said = self.answers.times(record), np.flatnonzero(y[:, 1])
        return ", ".join(str(step + 1) for step in true), ", ".join(str(step + 1) for step in said)

    def answer(self, heard: Heard, horizon: int = 0) -> dict[str, Any]:
        return {**super().answer(heard), "steps_ago": self.answers.tolerance}

    def _placed(self, p_T: np.ndarray) -> np.ndarray:
        peaks = self.model.peaks.whole(torch.as_tensor(p_T, device=self.model.peaks.threshold.device))
        return np.stack([p_T, peaks.cpu().numpy()], 1)

    def _best(self, given: Sequence[np.ndarray], records: Sequence[Record]) -> float:
        """The threshold with the best f1; between two heights of peaks, so that neither is near it."""
        peaks = Peaks(self.answers.tolerance)
        peaks.threshold.fill_(1e-12)
        heights = [np.where(peaks.whole(torch.as_tensor(p)).numpy(), p, 0.0) for p in given]
        different = np.unique(np.concatenate([h[h > 0] for h in heights]))[::-1]
        if len(different) > TRIED:
            different = different[np.linspace(0, len(different) - 1, TRIED).astype(int)]
        best = (0.0, 0.5)
        for above, below in zip(different, [*different[1:], different[-1] / 2 if len(different) else 0.0], strict=True):
            right = events = 0
            for h, record in zip(heights, records, strict=True):
                times, found = self.answers.times(record), np.flatnonzero(h >= above).tolist()
                right += len(matched(times, found, self.answers.tolerance))
                events += len(times) + len(found)
            best = max(best, (2 * right / max(1, events), float(above + below) / 2))
        return best[1]


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    d = recipe.data
    words, column = tag_columns(tables[0], d.inputs, d.target)
    if words:
        recipe = recipe.model_copy(update={"data": d.model_copy(update={"inputs": [words]})})
    threshold = recipe.decode.threshold
    times = EventTimes(column, d.tolerance, d.event, threshold=None if threshold == "auto" else threshold)
    return labelled.prepare(recipe, tables, cells, times, lambda _: "word+character", Alarm)


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Labelled:
    return labelled.restore(recipe, saved, file, cells, EventTimes, Alarm)
