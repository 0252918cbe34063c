"""What belongs to an input: how it is read, learned, scored and said.

Answers        of any kind
ClassAnswers   names, of which the training part must have shown each

T steps, P numbers predicted, K classes
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch

from clew.cells import Encoder, Recurrence
from clew.config import Recipe
from clew.data.balance import class_weights
from clew.data.inputs import Input
from clew.data.table import Table
from clew.errors import DataError
from clew.models import Head, SequenceHead, Single
from clew.models.heads.classes import ClassHead
from clew.tasks.plain import Says
from clew.tasks.records import Record

SHOWN = 8  # names that an error lists


class Answers(ABC):
    """What belongs to an input: one label, one number, or a tag for each step."""

    aligned: bool  # an answer for each step, or one for the whole sequence

    def __init__(self, column: str) -> None:
        self.column = column

    @property
    def targets(self) -> list[str]:
        """The columns that hold them."""
        return [self.column]

    @property
    @abstractmethod
    def size(self) -> int:
        """P, how many numbers a prediction has."""

    @abstractmethod
    def read(self, table: Table, source: Input) -> list[Any]:
        """The answers of a table's records, in their order."""

    @abstractmethod
    def fit(self, train: Sequence[Record]) -> Self:
        """The same, with what the training part shows."""

    @abstractmethod
    def encode(self, record: Record, steps: int) -> np.ndarray:
        """What the loss compares with, (T, ...). Raises DataError for an answer that the training part never had."""

    @abstractmethod
    def head(self, width: int, recipe: Recipe) -> Head | SequenceHead: ...

    def model(self, body: Recurrence | Encoder, recipe: Recipe) -> Single:
        return Single(body, self.head(body.output_size, recipe))

    def cut(self, answer: Any, steps: slice) -> Any:
        """What belongs to some steps of a sequence, where there is an answer for each."""
        return answer[steps]

    def classes(self, answer: Any) -> Collection[Hashable]:
        """The classes that an answer holds, of which training must have seen each; none where answers are numbers."""
        return ()

    @abstractmethod
    def score(self, predicted: Sequence[np.ndarray], records: Sequence[Record]) -> dict[str, float]:
        """Metrics of predictions (P,), or (T, P) where aligned."""

    @abstractmethod
    def baseline(self, records: Sequence[Record]) -> dict[str, dict[str, float]]:
        """Metrics of the naive predictions, by their names."""

    @abstractmethod
    def loss(self, metrics: dict[str, float]) -> float:
        """The number of a validation that is to be low."""

    @abstractmethod
    def columns(self) -> list[str]:
        """The names of what `said` gives."""

    @abstractmethod
    def said(self, predicted: np.ndarray) -> list[Any]:
        """One prediction (P,) in the answers' own terms, a cell a column."""

    @abstractmethod
    def plain(self) -> tuple[list[str], Says]:
        """An answer as numbers: their names, and what makes them (B, O) of predictions (B, P)."""

    def sizes(self) -> list[float]:
        """How large a difference is, for each of the numbers of `plain`."""
        return [1.0] * len(self.plain()[0])

    @abstractmethod
    def to_json(self) -> dict[str, Any]: ...

    @classmethod
    @abstractmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError where the object holds none."""


class ClassAnswers(Answers):
    """Names; `counts` (K,) are those of the training part."""

    what: ClassVar[str]  # a name is called

    def __init__(self, column: str, names: Sequence[str] = (), counts: Sequence[int] = ()) -> None:
        super().__init__(column)
        self.names, self.counts = list(names), np.array(counts, dtype=np.int64)
        self.index = {name: i for i, name in enumerate(self.names)}

    def number(self, name: str, record: Record, step: int = 0) -> int:
        """Raises DataError for a name that the training part does not have."""
        if name not in self.index:
            shown = ", ".join(self.names[:SHOWN]) + (", ..." if len(self.names) > SHOWN else "")
            raise DataError(
                f"the {self.what} '{name}'{f' (step {step})' if step else ''} does not occur in the training part",
                file=record.file,
                row=record.row,
                column=self.column,
                hint=f"known: {shown}",
            )
        return self.index[name]

    @property
    def size(self) -> int:
        return len(self.names)

    @abstractmethod
    def is_right(self, predicted: np.ndarray, record: Record) -> bool:
        """Whether a prediction is the record's answer, at all steps where there is one for each."""

    def head(self, width: int, recipe: Recipe) -> Head | SequenceHead:
        t = recipe.train
        weights = None
        if t.class_weights != "none":
            weights = torch.as_tensor(class_weights(self.counts, t.class_weights), dtype=torch.float32)
        return ClassHead(
            width, len(self.names), weights, t.label_smoothing, recipe.model.dropout, matching=t.entropy_matching
        )

    def plain(self) -> tuple[list[str], Says]:
        """The probability of each."""
        return [f"p({name})" for name in self.names], torch.exp

    def to_json(self) -> dict[str, Any]:
        return {"column": self.column, "names": self.names, "counts": self.counts.tolist()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        names, counts = list(saved["names"]), [int(n) for n in saved["counts"]]
        if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
            raise TypeError("names are different texts")
        if len(names) < 2 or len(names) != len(counts) or min(counts) < 1:
            raise ValueError("as many counts as names, two at least")
        return cls(str(saved["column"]), names, counts)
