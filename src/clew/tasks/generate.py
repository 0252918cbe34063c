"""Generate: a text in, a model of its next unit out, which can write on.

read         texts, each a document of its own: files, or the rows of a column
model        a stack of recurrences that reads a unit and predicts the next; every document begins in the initial
             state, and long ones are learned from in windows with the state carried on (`data.batch.Lanes`)
baseline     the frequencies of single units in the training part
metrics      nats, bits, perplexity, each of a unit
predictions  how well each document is foreseen

T units, V units known
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from clew.config import Recipe
from clew.data import inputs, series
from clew.data.batch import Batch, Example, Lanes, by_length, collate
from clew.data.inputs import TextInput
from clew.data.split import grouped, shared
from clew.data.table import Table
from clew.data.vocabulary import END, Vocabulary
from clew.decode import sample
from clew.errors import DataError, read_back
from clew.metrics import Tokens, unigram
from clew.models import Single, body_of, embedding
from clew.models.heads.classes import ClassHead
from clew.tasks.base import Cells, Heard, Job, Predictions, Scores, all_but, window_of
from clew.tasks.records import set_apart

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 256, "embedding": 64},
    "train": {"steps": 3000, "batch": 16, "window": 64, "lr": 5e-3, "patience": 0},
}
UNUSED = (*all_but(), "data.group", "data.channels", "model.pooling", "train.class_weights")
ENOUGH = 20  # documents that are parted whole; fewer are each cut in time order
WINDOW = 64  # units that a gradient reaches back, where that is left open
CHUNK, AT_ONCE = 1024, 32  # units, and documents, that are scored at once,
AT_HAND = 2**25  # or as many as have so many probabilities
VALID_UNITS, VALID_LANES = 50_000, 16  # validation runs often: on so many units, side by side


class Document(NamedTuple):
    """A text, or a part of one that has been cut."""

    text: str
    whole: bool
    file: str
    row: int


class Writer:
    """A trained model of text."""

    reads_text = reads_line_ends = True

    def __init__(self, model: Single, source: TextInput, counts: np.ndarray) -> None:
        self.model, self.source, self.counts = model, source, counts

    @property
    def vocabulary(self) -> Vocabulary:
        return self.source.known

    def to_json(self) -> dict[str, Any]:
        return {"input": self.source.to_json(), "counts": self.counts.tolist()}

    def example(self, document: Document) -> Example:
        """Inputs (T, 1) and the unit that follows each; a document that was not cut ends."""
        units = self.vocabulary.encode(document.text)[:, 0]
        end = np.array([END], dtype=units.dtype)
        following = np.concatenate([units, end]) if document.whole else units
        return Example(np.concatenate([end, following[:-1]])[:, None], following)

    @torch.no_grad()
    def nats(self, examples: Sequence[Example], lanes: int = 0) -> Tokens:
        """The score of all units, each document in one pass; with `lanes` they are cut into about so many pieces, each
        of which begins in the initial state, to be quicker."""
        self.model.eval()
        metric, device = Tokens(), next(self.model.parameters()).device
        for batch in _side_by_side(examples, lanes):
            (B, T), state = batch.x.shape[:2], None
            lengths = torch.full((B,), T) if batch.lengths is None else batch.lengths
            chunk = max(1, min(CHUNK, AT_HAND // (B * self.vocabulary.size)))
            for t in range(0, T, chunk):
                x, follows = batch.x[:, t : t + chunk].to(device), batch.target[:, t : t + chunk].to(device)
                inside = (lengths - t).clamp(0, x.shape[1])
                padded = int(inside.min()) < x.shape[1]
                logp, state = self.model(x, state, lengths=inside if padded else None)
                real = (torch.arange(x.shape[1]) < inside[:, None]).to(device)
                nats = -logp.gather(-1, follows[..., None])[..., 0][real]
                metric.update(float(nats.sum()), int(real.sum()))
        return metric

    def score(self, documents: Sequence[Document]) -> Scores:
        examples = [self.example(document) for document in documents]
        baseline = Tokens()
        held_out = np.concatenate([example.target for example in examples])
        baseline.update(unigram(self.counts, held_out) * len(held_out), len(held_out))
        return self.nats(examples).result(), {"unigram": baseline.result()}, len(held_out)

    def evaluate(self, tables: list[Table]) -> Scores:
        return self.score(_documents(tables, self.source))

    def predictions(self, table: Table, horizon: int = 0) -> Predictions:
        """How well each document is foreseen."""
        documents = _documents([table], self.source)
        scores = [self.nats([self.example(document)]).result() for document in documents]
        return Predictions(["row", *scores[0]], [[d.row, *s.values()] for d, s in zip(documents, scores, strict=True)])

    def opening(self) -> np.ndarray:
        return np.array([[END]])

    def from_line(self, value: Any, before: Any = None) -> tuple[np.ndarray, Any]:
        return self.source.from_line(value)

    def answer(self, heard: Heard, horizon: int = 0) -> dict[str, Any]:
        """How surprising what was read is, and what is likely next."""
        assert heard.before is not None, "a stream opens with the unit before a document"
        foreseen = torch.cat([heard.before[:, None], heard.y[:, :-1]], 1)[0].double()
        units = torch.as_tensor(heard.x[:, 0], dtype=torch.int64, device=foreseen.device)
        nats = float(-foreseen.gather(1, units[:, None]).mean())
        p, likely = heard.y[0, -1].exp().topk(min(5, heard.y.shape[-1]))
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
    d, t = recipe.data, recipe.train
    column = d.inputs or ([d.target] if d.target else [])
    source = inputs.find(tables[0], column, [])
    if not isinstance(source, TextInput) or source.cut:
        raise DataError("no column of text", file=tables[0].name, hint="name one with --input")
    train, valid, test = _parts(recipe, tables, source)
    unit = "character" if d.source_unit == "auto" else d.source_unit
    unit = {"word": "piece"}.get(unit, unit)  # words that can be written keep their spaces
    texts = [document.text for document in train]
    source = source.fit(texts, unit, lowercase=d.lowercase, min_count=d.min_count, largest=d.vocabulary)
    if source.known.width != 1:
        raise DataError(f"a text cannot be written in units of '{unit}'", hint="data.source_unit = character or bpe")
    writer = Writer(_model(recipe, source, cells), source, np.zeros(0))
    examples = [writer.example(document) for document in train]
    writer.counts = np.bincount(np.concatenate([e.target for e in examples]), minlength=source.known.size)
    window = window_of(recipe, WINDOW) or WINDOW  # a text is never learned from whole
    every = 1 if t.supervise == "auto" else t.supervise
    batches = Lanes(examples, t.batch, window, t.stride, every)
    recipe = recipe.model_copy(
        update={
            "data": d.model_copy(update={"inputs": source.columns, "target": "", "source_unit": unit}),
            "train": t.model_copy(update={"window": window, "supervise": every}),
        }
    )
    watched = _first_units([writer.example(document) for document in valid], VALID_UNITS)

    def validate() -> dict[str, float]:
        metrics = writer.nats(watched, VALID_LANES).result()
        return {"loss": metrics["nats"], **metrics}

    facts: dict[str, Any] = {"units": source.known.size}
    facts["parts"] = {"train": len(train), "valid": len(valid), "test": len(test)}
    if seen := shared(*(source.keys([document.text for document in part]) for part in (train, test))):
        facts["test_seen_in_training"] = seen
    steps = t.steps or t.epochs * len(batches)
    every_steps = max(1, min(500, math.ceil(steps / 10)))
    return Job(recipe, writer, batches, validate, lambda: writer.score(test), every=every_steps, facts=facts)


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Writer:
    with read_back(file):
        source = inputs.from_json(saved["input"], file)
        counts = np.array([int(n) for n in saved["counts"]])
        if not isinstance(source, TextInput) or len(counts) != source.known.size or source.known.width != 1:
            raise ValueError("as many counts as units")
    return Writer(_model(recipe, source, cells), source, counts)


def _model(recipe: Recipe, source: TextInput, cells: Cells | None) -> Single:
    m, t = recipe.model, recipe.train
    front = embedding(source.known, m.embedding or min(m.width, 128), m.letters, m.word_dropout)
    stack = body_of(m, front.input_size, cells, front)
    size, smoothing = source.known.size, t.label_smoothing
    model = Single(stack, ClassHead(stack.output_size, size, None, smoothing, m.dropout, matching=t.entropy_matching))
    model.init_state(1)  # refuses an Encoder: what reads the future cannot foresee it
    return model


def _documents(tables: Sequence[Table], source: TextInput) -> list[Document]:
    return [
        Document(text, True, table.name, row)
        for table in tables
        for text, row in zip(source.read(table), table.lines, strict=True)
    ]


def _parts(recipe: Recipe, tables: list[Table], source: TextInput) -> list[list[Document]]:
    """Training, validation and test documents: whole ones by chance, or, where there are few, each cut in order."""
    left, named_tables = set_apart(recipe, tables)
    named = {name: _documents(part, source) for name, part in named_tables.items()}
    fractions = [0.0 if name in named else float(getattr(recipe.data, name)) for name in ("valid", "test")]
    documents = _documents(left, source)
    if len(documents) >= ENOUGH:
        indices = grouped(source.keys([doc.text for doc in documents]), fractions[0], fractions[1], recipe.seed)
        parts = [[documents[i] for i in index] for index in indices]
    else:
        parts = [[], [], []]
        for document in documents:
            try:
                cuts = series.split(len(document.text), *fractions)
            except DataError:
                raise DataError(
                    f"a text of {len(document.text)} letters is too short to learn from",
                    file=document.file,
                    row=document.row,
                    hint="give a longer one",
                ) from None
            for part, steps in zip(parts, cuts, strict=True):
                if steps.stop > steps.start:
                    whole = steps == slice(0, len(document.text))
                    part.append(document._replace(text=document.text[steps], whole=whole))
    return [parts[0], named.get("valid", parts[1]), named.get("test", parts[2])]


def _first_units(examples: Sequence[Example], most: int) -> list[Example]:
    kept, left = [], most
    for example in examples:
        if left > 0:
            kept.append(Example(example.x[:left], example.target[:left]))
            left -= len(example.x)
    return kept


def _side_by_side(examples: Sequence[Example], lanes: int) -> Iterator[Batch]:
    """The documents in batches; with `lanes` they are cut into about so many pieces first."""
    if lanes:
        size = max(1, -(-sum(len(example.x) for example in examples) // lanes))
        examples = [
            Example(example.x[t : t + size], example.target[t : t + size])
            for example in examples
            for t in range(0, len(example.x), size)
        ]
    for which in by_length(examples, AT_ONCE):
        yield collate([examples[i] for i in which])
