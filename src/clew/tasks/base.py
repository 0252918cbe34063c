"""What a task is: how sources become something to train, and what can be asked of a trained model.

A task is a module with `DEFAULTS` (its own, by section of the recipe), `prepare` (sources to a `Job`) and `restore`
(a run folder's recipe and plan to a `Trained`).
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from torch import nn

from clew.cells import Recurrence
from clew.config import SECTIONS, Decode, Recipe, build
from clew.data.batch import Example
from clew.data.pair_batch import PairExample
from clew.data.table import Table
from clew.diagnose.examine import of_data
from clew.diagnose.window import suggested
from clew.errors import ConfigError
from clew.models import Single
from clew.models.unaligned import Unaligned
from clew.tasks.plain import Plain
from clew.training import Batches

OWN = {  # keys of a recipe that say something to few tasks, by what those do
    "forecast": ("data.season", "data.horizon", "data.anchor", "model.mode"),
    "write": (
        *("data.target_unit", "model.attention", "model.attention_heads", "model.decoder"),
        *("model.copying", "model.feed", "model.tied", "train.scheduled_sampling", "train.coverage"),
        *("decode.beam", "decode.length_penalty", "decode.coverage", "decode.no_repeat", "decode.longest"),
    ),
    "hear": ("data.mels",),
    "numbers": ("data.scan", "data.image", "data.scale"),
    "mask": ("train.mask_steps", "train.mask_channels"),
    "tag": ("model.crf",),
    "detect": ("data.event", "data.tolerance", "train.focal", "decode.threshold"),
    "multitask": ("data.targets", "data.target_kinds", "train.task_weights"),
    "set": ("train.set_loss",),
    "generate": ("data.keys", "data.transpose", "model.components"),
    "transcribe": ("model.subsample", "decode.language", "decode.language_weight", "decode.unit_bonus"),
}
FARTHEST = 512  # steps of a window that is found from the data
Cells = Mapping[str, type[Recurrence]]
Scores = tuple[dict[str, float], dict[str, dict[str, float]], int]  # the model's, each baseline's, how many were scored


@dataclass(frozen=True)
class Predictions:
    """One row a prediction."""

    columns: list[str]
    rows: list[list[Any]]
    short: dict[str, Any] = field(default_factory=dict)  # as one JSON object, where that is shorter than the rows


class Heard(NamedTuple):
    """What a stream has just read, and what the model made of it."""

    x: np.ndarray  # (T, I) the steps, T >= 1
    y: np.ndarray  # (T, ...) the prediction at each
    before: np.ndarray | None  # (...) the prediction before the first; None at the very beginning
    roll: Callable[[int], np.ndarray]  # (K, ...) of K further steps, each prediction read as the next input


class Shown(NamedTuple):
    """A record as the model is trained on it, what is true of it, and what the model says."""

    place: str  # file and row
    example: Example | PairExample
    truth: str
    said: str
    wrong: float  # 0 where it is right; larger is worse


class Trained(Protocol):
    """A model with what was found from its training part: raw values in, answers in their own terms out."""

    @property
    def model(self) -> nn.Module: ...

    def to_json(self) -> dict[str, Any]:
        """What `restore` needs."""
        ...

    def evaluate(self, tables: list[Table]) -> Scores: ...
    def predictions(self, table: Table, horizon: int = 0) -> Predictions: ...

    def shown(self, tables: list[Table], most: int) -> list[Shown]:
        """At most so many records of sources that hold the answers, from all over."""
        ...


class Streamed(Trained, Protocol):
    """One that can also answer a stream, line by line."""

    reads_text: bool
    reads_line_ends: bool  # whether the end of a line is something to read

    @property
    def model(self) -> Single | Unaligned: ...

    def opening(self) -> np.ndarray:
        """The steps (T, I) with which every stream begins; often none."""
        ...

    def from_line(self, value: Any, before: Any = None) -> tuple[np.ndarray, Any]:
        """The steps (T, I) that a line of a stream brings, and what has to be told with the next line as `before`."""
        ...

    def answer(self, heard: Heard, horizon: int = 0) -> dict[str, Any]:
        """What to say after these steps."""
        ...

    def plain(self) -> Plain:
        """The same as numbers only."""
        ...


@dataclass(frozen=True)
class Job:
    """Everything that training needs.

    Args:
        recipe: with everything that was left open written down.
        batches: of the training part.
        validate: metrics on the validation part; the lowest "loss" is the best.
        test: scores on the held-out part; asked once, at the end.
        every: steps between validations where the recipe says nothing, at most;
        validations: and there are as many of them, where there are steps enough.
        steps: updates where the recipe names neither steps nor epochs.
        facts: what `metrics.json` holds beside the metrics.
        draw: pictures for the run folder.
    """

    recipe: Recipe
    trained: Trained
    batches: Batches
    validate: Callable[[], dict[str, float]]
    test: Callable[[], Scores]
    every: int
    steps: int = 0
    validations: int = 1
    facts: dict[str, Any] = field(default_factory=dict)
    draw: Callable[[Path], None] | None = None


class Task(Protocol):
    """The module of a task."""

    DEFAULTS: dict[str, dict[str, Any]]
    UNUSED: Sequence[str]  # keys of a recipe that say nothing to it

    @staticmethod
    def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job: ...

    @staticmethod
    def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Trained: ...


class Searching:
    """What finds its answers by a search, as `decode` says."""

    decode: Decode

    def searching(self, **changes: Any) -> Self:
        """The same model with other words on how answers are found: see the recipe's [decode].

        Raises:
            ConfigError: an unknown word, or one out of bounds.
        """
        other = copy.copy(self)
        other.decode = build({"decode": self.decode.model_dump() | changes}).decode
        return other


def window_of(recipe: Recipe, usual: int, examples: Sequence[Example]) -> int:
    """The steps that a gradient reaches back, 0 for whole sequences; "auto" is the task's usual number, or as many more
    as the data reach back. (What single steps tell of each other is the least that longer stretches do.)"""
    if recipe.train.window != "auto":
        return recipe.train.window
    data = of_data(examples, FARTHEST)
    reach = 0.0 if data is None else data.horizon()
    reach = reach if math.isfinite(reach) else 0.0  # a season or a trend, which is carried on without a gradient
    window = max(usual, suggested(reach, math.inf, FARTHEST).steps)
    say(f"window: {window} steps" + (f", as the data carry information to {reach:.0f}" if reach > usual else ""))
    return window


def all_but(*own: str) -> tuple[str, ...]:
    """The keys that say nothing to a task that does these of `OWN`."""
    return tuple(key for what, keys in OWN.items() if what not in own for key in keys)


def refuse_unused(recipe: Recipe, keys: Sequence[str], who: str, hint: str) -> None:
    """What is said and would not be done is a mistake: raises ConfigError where one of the keys is set."""
    for key in keys:
        section, _, name = key.partition(".")
        if getattr(getattr(recipe, section), name) != SECTIONS[section].model_fields[name].default:
            raise ConfigError(f"{key} says nothing to {who}", hint=hint)


def say(text: str) -> None:
    """Talk goes to stderr."""
    print(text, file=sys.stderr)
