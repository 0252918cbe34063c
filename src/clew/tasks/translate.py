"""Translate: a text in, another text of its own length out: a language, a spelling, a summary.

read         two columns of text, or two files line by line; rows with the same source are one text with several
             references where it is scored, and each a pair of its own where it is learned from
model        an encoder, and a decoder that finds its places in the source by attention (`models.paired`)
baseline     the source itself
metrics      bleu and chrf (with sacrebleu), token_error, exact; a token is a letter where letters are written, else
             what stands between blanks
predictions  the text that the model gives the highest score, or the best of them; how sure it is (nats)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from clew.config import Decode, Recipe
from clew.data import pairs
from clew.data import vocabulary as vocabularies
from clew.data.pair_batch import PairBuckets, collate_pairs
from clew.data.pairs import Pair, PairExample
from clew.data.split import grouped, same_input_keys, shared
from clew.data.table import Table, column_name
from clew.data.vocabulary import END, Vocabulary
from clew.decode.penalty import covered
from clew.decode.pool import Hypothesis
from clew.decode.search import beam
from clew.errors import ConfigError, RunError
from clew.metrics import Edits, Sequences, Tokens
from clew.models.build import paired
from clew.models.paired import Paired
from clew.tasks.base import Cells, Heard, Job, Predictions, Scores, say
from clew.tasks.classify import unit
from clew.tasks.picture import draw_alignments
from clew.tasks.records import set_apart

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 256, "embedding": 128, "bidirectional": True, "dropout": 0.2},
    "train": {"epochs": 20, "batch": 64, "lr": 2e-3, "patience": 6, "label_smoothing": 0.1},
}
UNUSED = (
    *("data.group", "data.channels", "data.season", "data.horizon", "data.anchor"),
    *("model.mode", "model.pooling", "train.class_weights", "train.window", "train.stride", "train.supervise"),
)
UNSEEN = "decode.coverage needs a decoder with attention"
AT_ONCE = 64  # sources that are read together
WATCHED = 500  # sources of the validation part that are written out, greedily, at each validation
DRAWN = 3  # alignments in the picture of a run


class Columns(NamedTuple):
    source: str
    target: str


class Translator:
    """A trained model of pairs."""

    reads_text, reads_line_ends = True, False

    def __init__(
        self, model: Paired, columns: Columns, source: Vocabulary, target: Vocabulary, longest: int, decode: Decode
    ) -> None:
        self.model, self.columns, self.source, self.target = model, columns, source, target
        self.longest, self.decode = longest, decode

    def to_json(self) -> dict[str, Any]:
        return {
            "columns": list(self.columns),
            "source": self.source.to_json(),
            "target": self.target.to_json(),
            "longest": self.longest,
        }

    def searching(self, **changes: Any) -> Translator:
        """The same model with other words on how texts are found: see the recipe's [decode]."""
        decode = Decode(**{**self.decode.model_dump(), **changes})
        return Translator(self.model, self.columns, self.source, self.target, self.longest, decode)

    @torch.no_grad()
    def search(self, sources: Sequence[np.ndarray], nbest: int = 1) -> list[list[Hypothesis]]:
        """The best texts, as units, for sources (S, I), and what they are worth."""
        self.model.eval()
        d, device = self.decode, next(self.model.parameters()).device
        found: list[list[Hypothesis]] = [[] for _ in sources]
        order = np.argsort([-len(x) for x in sources], kind="stable")
        never = torch.tensor(self.target.unwritable, dtype=torch.int64, device=device)
        for rows in (order[i : i + AT_ONCE] for i in range(0, len(order), AT_ONCE)):
            batch = collate_pairs([PairExample(sources[i], np.zeros(0, np.int64)) for i in rows])
            context = self.model.encode(batch.source.to(device), batch.source_lengths.to(device))
            begin = torch.full((len(rows), 1), END, device=device)
            logp, state = self.model.step(begin, self.model.init_state(len(rows), context), context)
            best = beam(
                self.model,
                logp,
                state,
                context,
                end=END,
                most=min(d.longest, self.longest),
                width=d.beam,
                nbest=nbest,
                length_penalty=d.length_penalty,
                coverage=self._coverage(),
                no_repeat=d.no_repeat,
                never=never,
            )
            for i, hypotheses in zip(rows, best, strict=True):
                found[i] = hypotheses
        return found

    def _coverage(self) -> Callable[[Any], torch.Tensor] | None:
        if not self.decode.coverage:
            return None
        if self.model.decoder.attend is None:
            raise ConfigError(UNSEEN, hint="leave it out, or train with model.attention")
        # What is padded is never looked at, and a place that is not always a little.
        return lambda state: covered(state.attend.seen, self.decode.coverage, state.attend.seen > 0)

    def write(self, texts: Sequence[str]) -> list[str]:
        """The best text for each."""
        best = self.search([self._read(text) for text in texts])
        return [self.target.decode(hypotheses[0].units) if hypotheses else "" for hypotheses in best]

    def _read(self, text: str) -> np.ndarray:
        return self.source.encode(text)

    @torch.no_grad()
    def nats(self, examples: Sequence[PairExample]) -> Tokens:
        """The score of all target units, each given the true ones before it."""
        self.model.eval()
        metric, device = Tokens(), next(self.model.parameters()).device
        order = np.argsort([len(example.source) for example in examples], kind="stable")
        for rows in (order[i : i + AT_ONCE] for i in range(0, len(order), AT_ONCE)):
            batch = collate_pairs([examples[i] for i in rows])
            context = self.model.encode(batch.source.to(device), batch.source_lengths.to(device))
            logp, _ = self.model(batch.x.to(device), None, context, lengths=batch.lengths)
            nats = -logp.gather(-1, batch.target.to(device)[..., None])[..., 0][batch.supervised.to(device)]
            metric.update(float(nats.sum()), int(batch.lengths.sum()))
        return metric

    def cut(self, text: str) -> Sequence[Hashable]:
        """What is counted as a token."""
        return list(text) if self.target.unit in ("character", "byte") else text.split()

    def score(self, found: Sequence[Pair]) -> Scores:
        texts = [pair.source for pair in found]
        references = [pair.targets for pair in found]
        return self._metrics(self.write(texts), references), {"source": self._metrics(texts, references)}, len(found)

    def _metrics(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        # As it would be written: an encoding may have no two blanks, or no capitals.
        references = [[self.target.decode(self.target.encode(text)[:, 0]) for text in known] for known in references]
        try:
            metric = Sequences(self.cut)
        except ConfigError:
            return self._edits(texts, references)
        metric.update(texts, references)
        return metric.result()

    def _edits(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        metric = Edits()
        metric.update([self.cut(text) for text in texts], [[self.cut(text) for text in known] for known in references])
        return metric.result()

    def evaluate(self, tables: list[Table]) -> Scores:
        return self.score(pairs.grouped(pair for table in tables for pair in self._pairs(table)))

    def _pairs(self, table: Table) -> list[Pair]:
        return pairs.read(table, [self.columns.source], self.columns.target)

    def predictions(self, table: Table, horizon: int = 0, nbest: int = 1) -> Predictions:
        """One row a source, or `nbest` of them, the best first."""
        texts = pairs.sources(table, column_name(table, self.columns.source))
        best = self.search([self._read(text) for text in texts], nbest)
        rows = [
            [row, rank, self.target.decode(one.units), one.score, -one.logp]
            for row, hypotheses in zip(table.lines, best, strict=True)
            for rank, one in enumerate(hypotheses, 1)
        ]
        return Predictions(["row", "rank", self.columns.target, "score", "nats"], rows)

    @torch.no_grad()
    def alignment(self, text: str) -> tuple[list[str], list[str], np.ndarray]:
        """The units of a source, those written for it and the end, and where each looked: (T, S)."""
        units, best = self._read(text), self.search([self._read(text)])
        written = np.array(best[0][0].units if best[0] else [], dtype=np.int64)
        batch = collate_pairs([PairExample(units, written)])
        context = self.model.encode(batch.source, batch.source_lengths)
        weights = self.model.decoder.alignment(batch.x, context)[0].double().numpy()
        return (
            [self.source.decode([int(n)]) for n in units[:, 0]],
            [*(self.target.decode([int(n)]) for n in written), "end"],
            weights,
        )

    def opening(self) -> np.ndarray:
        return np.empty((0, 1))

    def from_line(self, value: Any) -> np.ndarray:
        raise NotImplementedError("a session begins with the model's state, which needs a source")

    def answer(self, heard: Heard, horizon: int = 0) -> dict[str, Any]:
        raise NotImplementedError("a session begins with the model's state, which needs a source")


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    """Read and part the pairs, learn both vocabularies and build the model."""
    d, t = recipe.data, recipe.train
    columns = Columns(*pairs.columns_of(tables[0], d.inputs, d.target))
    if not d.target or not d.inputs:
        say(f"source: '{columns.source}'; target: '{columns.target}'")
    if recipe.decode.coverage and recipe.model.attention == "none":
        raise ConfigError(UNSEEN, hint="leave it out, or set model.attention")
    train, valid, test = _parts(recipe, tables, columns)
    learned = pairs.single(train)
    texts = [pair.source for pair in train], [pair.targets[0] for pair in learned]
    units = unit(texts[0]) if d.source_unit == "auto" else d.source_unit, d.target_unit
    if d.target_unit == "auto":
        units = units[0], {"word": "piece", "word+character": "piece"}.get(units[0], units[0])
    source, target = (
        vocabularies.fit(name, some, lowercase=d.lowercase, min_count=d.min_count, largest=d.vocabulary)
        for name, some in zip(units, texts, strict=True)
    )
    examples = pairs.encode(learned, source, target)
    longest = 10 + 3 * max(len(example.target) for example in examples) // 2
    trained = Translator(paired(recipe, source, target, cells), columns, source, target, longest, recipe.decode)
    watched, teacher = valid[:WATCHED], pairs.encode(valid, source, target)
    pairs.encode(test, source, target)  # what cannot be scored is said before training, not behind it

    def validate() -> dict[str, float]:
        nats = trained.nats(teacher).result()["nats"]
        greedy = trained.searching(beam=1).write([pair.source for pair in watched])
        found = trained._edits(greedy, [pair.targets for pair in watched])
        return {"loss": found["token_error"] + 0.01 * min(nats, 10.0), "nats": nats, **found}

    recipe = recipe.model_copy(
        update={
            "data": d.model_copy(
                update={
                    "inputs": [columns.source],
                    "target": columns.target,
                    "source_unit": units[0],
                    "target_unit": units[1],
                }
            )
        }
    )
    batches = PairBuckets(examples, t.batch)
    sizes = {"train": len(train), "valid": len(valid), "test": len(test)}
    facts: dict[str, Any] = {"parts": sizes, "units": {"source": source.size, "target": target.size}}
    if seen := shared(*(same_input_keys([pair.source for pair in part]) for part in (train, test))):
        facts["test_seen_in_training"] = seen

    def draw(folder: Path) -> None:
        if trained.model.decoder.attend is not None:
            draw_alignments(folder / "alignment.svg", [trained.alignment(pair.source) for pair in test[:DRAWN]])

    return Job(
        recipe, trained, batches, validate, lambda: trained.score(test), every=len(batches), facts=facts, draw=draw
    )


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Translator:
    try:
        source, target = (vocabularies.from_json(saved[name], file) for name in ("source", "target"))
        columns, longest = Columns(*(str(name) for name in saved["columns"])), int(saved["longest"])
        if longest < 1 or target.width != 1:
            raise ValueError("units that can be written")
    except RunError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RunError(f"does not hold what this run needs: {error}", file=file, hint="train it again") from error
    return Translator(paired(recipe, source, target, cells), columns, source, target, longest, recipe.decode)


def _parts(recipe: Recipe, tables: list[Table], columns: Columns) -> list[list[Pair]]:
    """Training, validation and test pairs; a source stands in one part alone, and there once."""
    left, named_tables = set_apart(recipe, tables)

    def read(some: list[Table]) -> list[Pair]:
        return pairs.grouped(pair for table in some for pair in pairs.read(table, [columns.source], columns.target))

    named = {name: read(part) for name, part in named_tables.items()}
    found = read(left)
    fractions = [0.0 if name in named else float(getattr(recipe.data, name)) for name in ("valid", "test")]
    indices = grouped(same_input_keys([pair.source for pair in found]), fractions[0], fractions[1], recipe.seed)
    parts = [[found[i] for i in index] for index in indices]
    return [parts[0], named.get("valid", parts[1]), named.get("test", parts[2])]
