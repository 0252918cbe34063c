"""What models of the next step share, be it a unit of text, the keys that sound or the stroke of a pen: documents and
their parts, how well what comes is foreseen, and the job that trains one.

B rows, T steps, P numbers predicted
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clew.config import Recipe
from clew.data import series
from clew.data.batch import Batch, Example, Lanes, by_length, collate
from clew.data.split import grouped, shared
from clew.data.table import Table
from clew.errors import DataError
from clew.metrics import Tokens
from clew.models import Single
from clew.tasks.base import Job, Predictions, Scores, Shown, refuse_unused, window_of
from clew.tasks.records import set_apart, spread

ENOUGH = 20  # documents that are parted whole; fewer are each cut in time order
WINDOW = 64  # steps that a gradient reaches back, where that is left open
CHUNK, AT_ONCE = 1024, 32  # steps, and documents, that are scored at once,
AT_HAND = 2**25  # or as many as have so many numbers predicted
PIECE = 1_000  # steps of a document that are shown together
VALID_STEPS, VALID_LANES = 50_000, 16  # validation runs often: on so many steps, side by side

EMBEDDING = 64  # numbers that stand for a unit of text, where that is left open
OF_UNITS = (  # keys that say something to units of text alone
    *("data.source_unit", "data.lowercase", "data.min_count", "data.vocabulary", "model.embedding", "model.letters"),
    *("model.word_dropout", "train.label_smoothing", "train.entropy_matching"),
)

Read = Callable[[Table], Sequence[Any]]  # the documents of a table, one a row


class Document(NamedTuple):
    """A text or a list of steps, or a part of one that has been cut."""

    raw: Any
    whole: bool
    file: str
    row: int


class Continuer(ABC):
    """A trained model of what comes next."""

    model: Single

    @property
    @abstractmethod
    def wide(self) -> int:
        """P."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What `restore` needs."""

    @abstractmethod
    def read(self, table: Table) -> Sequence[Any]:
        """The documents of a table, one a row."""

    @abstractmethod
    def example(self, document: Document) -> Example:
        """Inputs (T, I), of which the first is what stands before all documents, and what follows each."""

    @abstractmethod
    def surprise(self, predicted: Tensor, follows: Tensor) -> Tensor:
        """-ln p, (B, T), of what followed (B, T, ...), by what was predicted (B, T, P)."""

    @abstractmethod
    def baseline(self, examples: Sequence[Example]) -> dict[str, Tokens]:
        """What those who do not look at the past would have foreseen, by name."""

    @torch.no_grad()
    def nats(self, examples: Sequence[Example], lanes: int = 0) -> Tokens:
        """The score of all steps, each document in one pass; with `lanes` they are cut into about so many pieces, each
        of which begins in the initial state, to be quicker."""
        self.model.eval()
        metric, device = Tokens(), next(self.model.parameters()).device
        for batch in _side_by_side(examples, lanes):
            (B, T), state = batch.x.shape[:2], None
            lengths = torch.full((B,), T) if batch.lengths is None else batch.lengths
            chunk = max(1, min(CHUNK, AT_HAND // (B * self.wide)))
            for t in range(0, T, chunk):
                x, follows = batch.x[:, t : t + chunk].to(device), batch.target[:, t : t + chunk].to(device)
                inside = (lengths - t).clamp(0, x.shape[1])
                padded = int(inside.min()) < x.shape[1]
                predicted, state = self.model(x, state, lengths=inside if padded else None)
                real = (torch.arange(x.shape[1]) < inside[:, None]).to(device)
                nats = self.surprise(predicted, follows)[real]
                metric.update(float(nats.sum()), int(real.sum()))
        return metric

    def score(self, documents: Sequence[Document]) -> Scores:
        examples = [self.example(document) for document in documents]
        naive = {name: metric.result() for name, metric in self.baseline(examples).items()}
        return self.nats(examples).result(), naive, sum(len(example.x) for example in examples)

    def evaluate(self, tables: list[Table]) -> Scores:
        return self.score(documents(tables, self.read))

    def predictions(self, table: Table, horizon: int = 0) -> Predictions:
        """How well each document is foreseen."""
        found = documents([table], self.read)
        scores = [self.nats([self.example(document)]).result() for document in found]
        return Predictions(["row", *scores[0]], [[d.row, *s.values()] for d, s in zip(found, scores, strict=True)])

    def shown(self, tables: list[Table], most: int) -> list[Shown]:
        """Documents, long ones in pieces."""
        cut = [
            document._replace(raw=document.raw[t : t + PIECE], whole=document.whole and len(document.raw) <= PIECE)
            for document in documents(tables, self.read)
            for t in range(0, len(document.raw), PIECE)
        ]
        found = []
        for piece in spread(cut, most):
            example = self.example(piece)
            nats = self.nats([example]).result()["nats"]
            said = f"{nats:.3f} nats a step"
            found.append(Shown(f"{piece.file}, row {piece.row}", example, str(piece.raw), said, nats))
        return found


def without_units(recipe: Recipe, who: str, *unused: str) -> Recipe:
    """The recipe of what has no units of text. Raises ConfigError where a key speaks of them, or is one of `unused`."""
    if recipe.model.embedding == EMBEDDING:  # what generate begins with
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"embedding": 0})})
    refuse_unused(recipe, (*OF_UNITS, *unused), who, "leave it out")
    return recipe


def documents(tables: Sequence[Table], read: Read) -> list[Document]:
    return [
        Document(raw, True, table.name, row)
        for table in tables
        for raw, row in zip(read(table), table.lines, strict=True)
    ]


def parts(
    recipe: Recipe, tables: list[Table], read: Read, keys: Callable[[Sequence[Any]], Sequence[Hashable]]
) -> list[list[Document]]:
    """Training, validation and test documents: whole ones by chance, or, where there are few, each cut in order.

    Args:
        keys: equal for documents that are the same.

    Raises:
        DataError: a document that is too short to be cut, or a part that would be empty.
    """
    left, named_tables = set_apart(recipe, tables)
    named = {name: documents(part, read) for name, part in named_tables.items()}
    fractions = [0.0 if name in named else float(getattr(recipe.data, name)) for name in ("valid", "test")]
    found = documents(left, read)
    if not any(fractions):
        cut = [found, [], []]
    elif len(found) >= ENOUGH:
        indices = grouped(keys([doc.raw for doc in found]), fractions[0], fractions[1], recipe.seed)
        cut = [[found[i] for i in index] for index in indices]
    else:
        cut = [[], [], []]
        for document in found:
            try:
                cuts = series.split(len(document.raw), *fractions)
            except DataError:
                text = isinstance(document.raw, str)
                size = f"a text of {len(document.raw)} letters" if text else f"a row of {len(document.raw)} steps"
                raise DataError(
                    f"{size} is too short to learn from",
                    file=document.file,
                    row=document.row,
                    hint="give a longer one",
                ) from None
            for part, steps in zip(cut, cuts, strict=True):
                if steps.stop > steps.start:
                    whole = steps == slice(0, len(document.raw))
                    part.append(document._replace(raw=document.raw[steps], whole=whole))
    return [cut[0], named.get("valid", cut[1]), named.get("test", cut[2])]


def job(
    recipe: Recipe,
    trained: Continuer,
    examples: Sequence[Example],
    split: Sequence[Sequence[Document]],
    keys: Callable[[Sequence[Any]], Sequence[Hashable]],
    data: dict[str, Any],
    facts: dict[str, Any],
) -> Job:
    """What training needs.

    Args:
        examples: of the training part.
        split: training, validation and test documents.
        data: keys of the recipe's [data] that were left open.
        facts: of the run.
    """
    t, (train, valid, test) = recipe.train, split
    trained.model.init_state(1)  # refuses an Encoder: what reads the future cannot foresee it
    window = window_of(recipe, WINDOW, examples) or WINDOW  # a document is never learned from whole
    every = 1 if t.supervise == "auto" else t.supervise
    batches = Lanes(examples, t.batch, window, t.stride, every)
    recipe = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update=data),
            "train": t.model_copy(update={"window": window, "supervise": every}),
        }
    )
    for document in test:  # what cannot be scored is said before training, not behind it
        trained.example(document)
    watched = _first_steps([trained.example(document) for document in valid], VALID_STEPS)

    def validate() -> dict[str, float]:
        metrics = trained.nats(watched, VALID_LANES).result()
        return {"loss": metrics["nats"], **metrics}

    facts = {**facts, "parts": {"train": len(train), "valid": len(valid), "test": len(test)}}
    if seen := shared(*(keys([document.raw for document in part]) for part in (train, test))):
        facts["test_seen_in_training"] = seen
    return Job(recipe, trained, batches, validate, lambda: trained.score(test), every=500, validations=10, facts=facts)


def _first_steps(examples: Sequence[Example], most: int) -> list[Example]:
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
