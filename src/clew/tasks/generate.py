"""Generate: documents in, a model of what comes next out, which can go on with them.

read         texts, each a document of its own: files, or the rows of a column; or lists of steps, see `frames` (sets of
             keys that sound together) and `traces` (numbers, as the strokes of a pen)
model        a stack of recurrences that reads a unit and predicts the next; every document begins in the initial
             state, and long ones are learned from in windows with the state carried on (`data.batch.Lanes`)
baseline     the frequencies of single units in the training part
metrics      nats, bits, perplexity, each of a unit
predictions  how well each document is foreseen

T units, V units known
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clew.config import Recipe
from clew.data import inputs
from clew.data.batch import Example
from clew.data.inputs import TextInput
from clew.data.table import Table, column_name, kind
from clew.data.vocabulary import END, Vocabulary
from clew.decode import sample
from clew.errors import DataError, read_back
from clew.metrics import Tokens, unigram
from clew.models import Single, body_of, embedding
from clew.models.heads.classes import ClassHead
from clew.tasks import continuing, frames, traces
from clew.tasks.base import Cells, Heard, Job, all_but, refuse_unused
from clew.tasks.continuing import Continuer, Document
from clew.tasks.plain import Plain

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 256, "embedding": continuing.EMBEDDING},
    "train": {"steps": 3000, "batch": 16, "window": 64, "lr": 5e-3, "patience": 0},
}
UNUSED = (*all_but("generate"), "data.group", "data.channels", "model.pooling", "train.class_weights")


class Writer(Continuer):
    """A trained model of text."""

    reads_text = reads_line_ends = True

    def __init__(self, model: Single, source: TextInput, counts: np.ndarray) -> None:
        self.model, self.source, self.counts = model, source, counts

    @property
    def vocabulary(self) -> Vocabulary:
        return self.source.known

    @property
    def wide(self) -> int:
        return self.vocabulary.size

    def to_json(self) -> dict[str, Any]:
        return {"input": self.source.to_json(), "counts": self.counts.tolist()}

    def read(self, table: Table) -> Sequence[str]:
        return self.source.read(table)

    def example(self, document: Document) -> Example:
        """Inputs (T, 1) and the unit that follows each; a document that was not cut ends."""
        units = self.vocabulary.encode(document.raw)[:, 0]
        end = np.array([END], dtype=units.dtype)
        following = np.concatenate([units, end]) if document.whole else units
        return Example(np.concatenate([end, following[:-1]])[:, None], following)

    def surprise(self, predicted: Tensor, follows: Tensor) -> Tensor:
        return -predicted.gather(-1, follows[..., None])[..., 0]

    def baseline(self, examples: Sequence[Example]) -> dict[str, Tokens]:
        held_out, naive = np.concatenate([example.target for example in examples]), Tokens()
        naive.update(unigram(self.counts, held_out) * len(held_out), len(held_out))
        return {"unigram": naive}

    def opening(self) -> np.ndarray:
        return np.array([[END]])

    def from_line(self, value: Any, before: Any = None) -> tuple[np.ndarray, Any]:
        return self.source.from_line(value)

    def plain(self) -> Plain:
        names = [f"p({self.vocabulary.decode([unit])})" for unit in range(self.vocabulary.size)]
        return Plain(self.model, self.source.channel_names, names, torch.exp, opening=self.opening(), units=len(names))

    def answer(self, heard: Heard, horizon: int = 0) -> dict[str, Any]:
        """How surprising what was read is, and what is likely next."""
        assert heard.before is not None, "a stream opens with the unit before a document"
        foreseen = np.concatenate([heard.before[None], heard.y[:-1]])
        nats = -float(np.take_along_axis(foreseen, heard.x[:, :1], 1).mean(dtype=np.float64))
        p, likely = torch.from_numpy(heard.y[-1]).exp().topk(min(5, heard.y.shape[-1]))
        following: dict[str, float] = {}
        for unit, share in zip(likely.tolist(), p.tolist(), strict=True):  # halves of letters are all written alike
            text = self.vocabulary.decode([unit])
            following[text] = round(following.get(text, 0.0) + share, 6)
        return {"units": len(heard.x), "nats": nats, "next": following}

    def write(
        self,
        prompt: str,
        *,
        length: int,
        temperature: float,
        seed: int,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
    ) -> Iterator[str]:
        """What follows the prompt, piece by piece: at most `length` units, fewer where the document ends."""
        self.model.eval()
        units = self.vocabulary.encode(prompt)
        x = torch.as_tensor(np.concatenate([self.opening(), units]), dtype=torch.int64)[None]
        with torch.no_grad():
            logp, state = self.model(x)
        never = torch.tensor(self.vocabulary.unwritable, dtype=torch.int64)
        written: list[int] = []
        said = ""
        how = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        drawn = sample(self.model, logp[:, -1], state, seed, never=never, **how)
        for _, unit in zip(range(length), drawn, strict=False):
            if int(unit) == END:
                return
            written.append(int(unit))
            # A unit may be half of a letter: only what can no longer change is said.
            text = self.vocabulary.decode(written)
            if not text.endswith("\ufffd"):
                yield text[len(said) :]
                said, written = "", []
        if written:
            yield self.vocabulary.decode(written)


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    """Read the documents, part them, learn the units and build the model."""
    d = recipe.data
    column = d.inputs or ([d.target] if d.target else [])
    if lists := _lists(tables[0], column):
        music = bool(d.keys) or frames.are_frames(tables[0], lists)
        return (frames if music else traces).prepare(recipe, tables, cells, lists)
    refuse_unused(recipe, ("data.keys", "data.transpose", "model.components"), "texts", "leave it out")
    source = inputs.find(tables[0], column, [])
    if not isinstance(source, TextInput) or source.cut:
        raise DataError("no column of text or of lists", file=tables[0].name, hint="name one with --input")

    def keys(texts: Sequence[str]) -> Sequence[Hashable]:
        return source.keys(texts)

    split = continuing.parts(recipe, tables, source.read, keys)
    unit = "character" if d.source_unit == "auto" else d.source_unit
    unit = {"word": "piece"}.get(unit, unit)  # words that can be written keep their spaces
    texts = [document.raw for document in split[0]]
    known = source.fit(texts, unit, lowercase=d.lowercase, min_count=d.min_count, largest=d.vocabulary)
    if known.known.width != 1:
        raise DataError(f"a text cannot be written in units of '{unit}'", hint="data.source_unit = character or bpe")
    writer = Writer(_model(recipe, known, cells), known, np.zeros(0))
    examples = [writer.example(document) for document in split[0]]
    writer.counts = np.bincount(np.concatenate([e.target for e in examples]), minlength=known.known.size)
    found = {"inputs": source.columns, "target": "", "source_unit": unit}
    return continuing.job(recipe, writer, examples, split, keys, found, {"units": known.known.size})


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Continuer:
    with read_back(file):
        kind_of = dict(saved).get("kind")
    for module in (frames, traces):
        if kind_of == module.KIND:
            return module.restore(recipe, saved, file, cells)
    with read_back(file):
        source = inputs.from_json(saved["input"], file)
        counts = np.array([int(n) for n in saved["counts"]])
        if not isinstance(source, TextInput) or len(counts) != source.known.size or source.known.width != 1:
            raise ValueError("as many counts as units")
    return Writer(_model(recipe, source, cells), source, counts)


def _lists(table: Table, wanted: Sequence[str]) -> str:
    """The column of lists of steps that is meant; "" where it is one of texts."""
    names = [column_name(table, name) for name in wanted] or list(table.columns)
    if not wanted and any(kind(table, name) == "text" for name in names):
        return ""
    return next((name for name in names if kind(table, name) in ("numbers", "vectors")), "")


def _model(recipe: Recipe, source: TextInput, cells: Cells | None) -> Single:
    m, t = recipe.model, recipe.train
    front = embedding(source.known, m.embedding or min(m.width, 128), m.letters, m.word_dropout)
    stack = body_of(m, front.input_size, cells, front)
    size, smoothing = source.known.size, t.label_smoothing
    return Single(stack, ClassHead(stack.output_size, size, None, smoothing, m.dropout, matching=t.entropy_matching))
