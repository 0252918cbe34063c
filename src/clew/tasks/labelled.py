"""What classify, regress and tag share: inputs with answers, a pooled or aligned model, and how it is asked.

A task brings its `Answers` (see there). Everything else stands here.

B rows, T steps, P numbers predicted
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clew.cells import Encoder
from clew.config import Recipe
from clew.data import inputs
from clew.data.batch import Buckets, Example, Lanes, by_length, collate
from clew.data.inputs import Input, TextInput
from clew.data.sounds import AudioInput
from clew.data.table import Table, column_name
from clew.errors import ConfigError, read_back
from clew.models import SequenceHead, Single, body_of, embedding, front_of
from clew.tasks.answers import Answers
from clew.tasks.base import Cells, Heard, Job, Predictions, Scores, Shown, say, window_of
from clew.tasks.plain import Plain
from clew.tasks.records import Parts, Record, gather, part, refuse_long, refuse_unread, split_columns, spread, steps_of

AT_ONCE = 64  # sequences that are predicted together
CHUNK = 4096  # steps of a sequence that are predicted at once, where the model is causal
WINDOW = 128  # steps that a gradient reaches back, where that is left open
SAID = 8  # columns that are named


class Labelled:
    """A trained model of one of these tasks."""

    reads_line_ends = False

    def __init__(self, model: Single, source: Input, answers: Answers) -> None:
        self.model, self.source, self.answers = model, source, answers
        self.reads_text = isinstance(source, TextInput)

    def to_json(self) -> dict[str, Any]:
        return {"input": self.source.to_json(), "answers": self.answers.to_json()}

    def encode(self, record: Record) -> np.ndarray:
        return steps_of(self.source, record)

    def example(self, record: Record) -> Example:
        x = self.encode(record)
        return Example(x, self.answers.encode(record, len(x)))

    @torch.no_grad()
    def outputs(self, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Predictions of whole sequences, (P,) each, or (T, P) where the answers are aligned."""
        self.model.eval()
        examples = [Example(x, np.zeros((len(x), 0))) for x in xs]
        out: list[np.ndarray] = [np.empty(0)] * len(xs)
        device = next(self.model.parameters()).device
        for which in by_length(examples, AT_ONCE):
            batch = collate([examples[i] for i in which])
            lengths = torch.tensor([len(xs[i]) for i in which])
            for rows, y_BTP in self._chunks(batch.x.to(device), lengths):
                for i, row in zip(which, rows, strict=True):
                    out[i] = y_BTP[row, : len(xs[i])] if self.answers.aligned else y_BTP[row, 0]
        return out

    def _chunks(self, x_BTI: Tensor, lengths: Tensor) -> Iterator[tuple[range, np.ndarray]]:
        """The predictions of a batch: aligned ones at all steps, others, which need not be kept, at the last alone."""
        B, T, _ = x_BTI.shape
        padded = lengths if int(lengths.min()) < T else None
        if T <= CHUNK or isinstance(self.model.body, Encoder) or isinstance(self.model.head, SequenceHead):
            y = self.model(x_BTI, lengths=padded)[0]
            if not self.answers.aligned:
                y = y[torch.arange(B), lengths - 1][:, None]
            yield range(B), y.double().cpu().numpy()
            return
        state, last, kept = None, torch.empty(0), []
        for t in range(0, T, CHUNK):
            x = x_BTI[:, t : t + CHUNK]
            y, state = self.model(x, state, lengths=(lengths - t).clamp(0, x.shape[1]))
            if self.answers.aligned:
                kept.append(y.double().cpu())
            else:
                ends = ((lengths > t) & (lengths <= t + x.shape[1]))[:, None].to(y.device)
                here = y[torch.arange(B), (lengths - 1 - t).clamp(0, x.shape[1] - 1)]
                last = torch.where(ends, here, last if t else here)
        yield range(B), (torch.cat(kept, 1) if kept else last[:, None].double().cpu()).numpy()

    def validate(self, records: Sequence[Record]) -> dict[str, float]:
        """`score` of the validation part, by which a task may settle what training leaves open."""
        return self.score(records)

    def score(self, records: Sequence[Record]) -> dict[str, float]:
        return self.answers.score(self.outputs([self.encode(record) for record in records]), records)

    def evaluate(self, tables: list[Table]) -> Scores:
        records = gather(tables, self.source, self.answers.read)
        for record in records:
            self.answers.encode(record, 1)
        return self.score(records), self.answers.baseline(records), len(records)

    def predictions(self, table: Table, horizon: int = 0) -> Predictions:
        """One row a record; where the answers are aligned, one a step, beside the number of its record."""
        records = gather([table], self.source, lambda table, source: [None] * len(source.read(table)))
        outputs = self.outputs([self.encode(record) for record in records])
        if not self.answers.aligned:
            rows = [[record.row, *self.answers.said(y)] for record, y in zip(records, outputs, strict=True)]
            return Predictions(["row", *self.answers.columns()], rows)
        words = isinstance(self.source, TextInput)
        rows = [
            [n, t, *([record.raw[t - 1]] if words else []), *self.answers.said(y)]
            for n, (record, steps) in enumerate(zip(records, outputs, strict=True), 1)
            for t, y in enumerate(steps, 1)
        ]
        return Predictions(["sequence", "step", *(["word"] if words else []), *self.answers.columns()], rows)

    def told(self, record: Record, y: np.ndarray) -> tuple[str, str]:
        """What is true of a record and what is said of it, in few words."""
        if self.answers.aligned:
            return " ".join(map(str, record.answer)), " ".join(str(self.answers.said(step)[0]) for step in y)
        said = dict(zip(self.answers.columns(), self.answers.said(y), strict=True))
        told = [str(said[target]) for target in self.answers.targets if target in said]
        answers = record.answer if len(self.answers.targets) > 1 else [record.answer]
        return ", ".join(map(str, answers)), ", ".join(told or [str(next(iter(said.values())))])

    def shown(self, tables: list[Table], most: int) -> list[Shown]:
        records = spread(gather(tables, self.source, self.answers.read), most)
        found = []
        for record, y in zip(records, self.outputs([self.encode(record) for record in records]), strict=True):
            truth, said = self.told(record, y)
            wrong = self.answers.loss(self.answers.score([y], [record]))
            found.append(Shown(f"{record.file}, row {record.row}", self.example(record), truth, said, wrong))
        return found

    def from_line(self, value: Any, before: Any = None) -> tuple[np.ndarray, Any]:
        return self.source.from_line(value, before)

    def plain(self) -> Plain:
        (names, says), sizes, source = self.answers.plain(), self.answers.sizes(), self.source
        if isinstance(source, TextInput):
            return Plain(self.model, source.channel_names, names, says, units=source.known.size, sizes=sizes)
        return Plain(self.model, source.channel_names, names, says, source.scaler, sizes=sizes)

    def opening(self) -> np.ndarray:
        return np.empty((0, 1))

    def answer(self, heard: Heard, horizon: int = 0) -> dict[str, Any]:
        """The answer to all that was heard, or, where answers are aligned, one for each step just read."""
        steps = heard.y.astype(np.float64)
        names = self.answers.columns()
        if not self.answers.aligned:
            return dict(zip(names, self.answers.said(steps[-1]), strict=True))
        columns = zip(*(self.answers.said(step) for step in steps), strict=True)
        return dict(zip(names, (list(column) for column in columns), strict=True))


def prepare(
    recipe: Recipe,
    tables: list[Table],
    cells: Cells | None,
    answers: Answers,
    unit: Callable[[Sequence[Any]], str],
    kind: type[Labelled] = Labelled,
) -> Job:
    """Read, part and encode the sources, and build the model.

    Args:
        answers: of the target column, not yet fitted.
        unit: what texts are cut into where the recipe leaves it open, from those of the training part.
        kind: of the trained model.
    """
    d, m, t = recipe.data, recipe.model, recipe.train
    group = column_name(tables[0], d.group) if d.group else ""
    beside = [name for name in (*answers.targets, group, *split_columns(recipe, tables[0])) if name]
    source = inputs.find(tables[0], d.inputs, beside, d)
    if answers.aligned:
        source = _with_steps(source, d.source_unit)
    if not (d.target or d.targets) or not d.inputs:
        seen = ", ".join(f"'{name}'" for name in source.columns[:SAID]) + ", ..." * (len(source.columns) > SAID)
        say(f"target: '{answers.column}'; input: {seen}")
    parts = part(recipe, tables, source, answers.read, answers.classes, answers.cut)
    raws = [record.raw for record in parts.train]
    chosen = d.source_unit
    if chosen == "auto" and isinstance(source, TextInput):
        chosen = unit(raws)
    source = source.fit(raws, chosen, lowercase=d.lowercase, min_count=d.min_count, largest=d.vocabulary)
    refuse_unread(recipe, source)
    answers = answers.fit(parts.train)
    for record in [*parts.valid, *parts.test]:  # what cannot be scored is said before training, not behind it
        answers.encode(record, 1)
    every = _supervise(recipe, answers)
    trained = kind(nn.Module(), source, answers)  # pyright: ignore[reportArgumentType]  # the model follows
    examples = [trained.example(record) for record in parts.train]
    if not t.window:
        hint = "--set train.window=256 learns from windows with the state carried on"
        refuse_long(parts.train, [len(example.x) for example in examples], hint)
    trained.model = _model(recipe, source, answers, cells)
    window = window_of(recipe, WINDOW, examples)
    if window:
        trained.model.init_state(1)  # refuses an Encoder, which cannot carry a state
        batches: Buckets | Lanes = Lanes(examples, t.batch, window, t.stride, every)
    else:
        batches = Buckets(examples, t.batch, every)
    resolved = {"inputs": source.columns, "source_unit": chosen, "group": group}
    if not d.targets:
        resolved["target"] = answers.column
    recipe = recipe.model_copy(
        update={
            "data": d.model_copy(update=resolved),
            "train": t.model_copy(update={"window": window, "supervise": every}),
            "model": m.model_copy(update={"embedding": m.embedding or _embedding(recipe)}),
        }
    )

    def validate() -> dict[str, float]:
        metrics = trained.validate(parts.valid)
        return {"loss": answers.loss(metrics), **metrics}

    def test() -> Scores:
        return trained.score(parts.test), answers.baseline(parts.test), len(parts.test)

    return Job(recipe, trained, batches, validate, test, every=max(1, len(batches)), facts=_facts(parts))


def restore(
    recipe: Recipe,
    saved: dict[str, Any],
    file: Path,
    cells: Cells | None,
    answers: type[Answers],
    kind: type[Labelled] = Labelled,
) -> Labelled:
    with read_back(file):
        known = answers.from_json(saved["answers"])
        source = inputs.from_json(saved["input"], file)
    return kind(_model(recipe, source, known, cells), source, known)


def _model(recipe: Recipe, source: Input, answers: Answers, cells: Cells | None) -> Single:
    m = recipe.model
    if isinstance(source, TextInput):
        channels, front = 0, embedding(source.known, m.embedding or _embedding(recipe), m.letters, m.word_dropout)
    else:
        channels, front = source.channels, front_of(m, recipe.train, source.channels, source.frame)
    stack = body_of(m, channels, cells, front, "" if answers.aligned else m.pooling)
    return answers.model(stack, recipe)


def _embedding(recipe: Recipe) -> int:
    return min(recipe.model.width, 128)


def _supervise(recipe: Recipe, answers: Answers) -> Any:
    chosen = recipe.train.supervise
    return (1 if answers.aligned else "last") if chosen == "auto" else chosen


def _with_steps(source: Input, unit: str) -> Input:
    """Where each step has an answer, a row of numbers is a step, and a text comes as words, or as letters."""
    if isinstance(source, TextInput):
        if unit not in ("auto", "character", "word", "word+character"):
            what = f"data.source_unit: answers belong to words or letters, not to units of '{unit}'"
            raise ConfigError(what, hint="character, word or word+character")
        return TextInput(source.column, cut=True, letters=unit == "character")
    if isinstance(source, AudioInput):
        hint = "classify it as a whole, or write down what is said with --task transcribe"
        raise ConfigError("the frames of a sound have no tags of their own", hint=hint)
    return replace(source, layout="steps") if source.layout == "row" else source


def _facts(parts: Parts) -> dict[str, Any]:
    sizes = {"train": len(parts.train), "valid": len(parts.valid), "test": len(parts.test)}
    return {"parts": sizes, **({"test_seen_in_training": parts.shared} if parts.shared else {})}
