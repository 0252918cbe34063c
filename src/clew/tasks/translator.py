"""A trained model of pairs: texts in, texts out, the best that a search finds."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from clew.config import Decode, build
from clew.data import pairs
from clew.data.pair_batch import PairBatch, PairExample, collate_pairs
from clew.data.pairs import Pair
from clew.data.table import Table, column_name
from clew.data.vocabulary import END, Vocabulary, Words
from clew.data.vocabulary.known import Known
from clew.decode import Hypothesis, beam, covered
from clew.errors import ConfigError
from clew.metrics import Edits, Sequences, Tokens
from clew.models.heads.copying import CopyHead
from clew.models.paired import Paired
from clew.models.source import Source
from clew.tasks.base import Predictions, Scores, say

UNSEEN = "decode.coverage needs a decoder with attention"
AT_ONCE = 64  # sources that are read together


class Columns(NamedTuple):
    source: str
    target: str


class Translator:
    """A trained model of pairs."""

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
        decode = build({"decode": self.decode.model_dump() | changes}).decode
        return Translator(self.model, self.columns, self.source, self.target, self.longest, decode)

    @property
    def copies(self) -> bool:
        return isinstance(self.model.head, CopyHead)

    def examples(self, some: Sequence[Pair]) -> list[PairExample]:
        """What is learned from: one for each target."""
        return pairs.encode(some, self.source, self.target, self.copies)

    @torch.no_grad()
    def search(self, texts: Sequence[str], nbest: int = 1) -> list[list[Hypothesis]]:
        """The best texts for each source, as units, and what they are worth."""
        self.model.eval()
        d, device = self.decode, next(self.model.parameters()).device
        nothing = np.zeros(0, np.int64)
        sources = [
            PairExample(self.source.encode(text), nothing, self.target.read(text)[0] if self.copies else None)
            for text in texts
        ]
        found: list[list[Hypothesis]] = [[] for _ in texts]
        order = np.argsort([-len(example.source) for example in sources], kind="stable")
        never = torch.tensor(self.target.unwritable, dtype=torch.int64, device=device)
        for rows in (order[i : i + AT_ONCE] for i in range(0, len(order), AT_ONCE)):
            context = self._encoded(collate_pairs([sources[i] for i in rows]))
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

    def _encoded(self, batch: PairBatch) -> Source:
        device = next(self.model.parameters()).device
        copied = None if batch.copied is None else batch.copied.to(device)
        return self.model.encode(batch.source.to(device), batch.source_lengths.to(device), copied)

    def _coverage(self) -> Callable[[Any], torch.Tensor] | None:
        if not self.decode.coverage:
            return None
        if self.model.decoder.attend is None:
            raise ConfigError(UNSEEN, hint="leave it out, or train with model.attention")
        # What is padded is never looked at, and a place that is not always a little.
        return lambda state: covered(state.attend.seen, self.decode.coverage, state.attend.seen > 0)

    def write(self, texts: Sequence[str]) -> list[str]:
        """The best text for each."""
        best = zip(texts, self.search(texts), strict=True)
        return [self.spelt(text, found[0].units) if found else "" for text, found in best]

    def spelt(self, text: str, units: Sequence[int]) -> str:
        """Units that were written for a text, as a text."""
        return self.target.decode(units, self.target.read(text)[1] if self.copies else ())

    @torch.no_grad()
    def nats(self, examples: Sequence[PairExample]) -> Tokens:
        """The score of all target units, each given the true ones before it."""
        self.model.eval()
        metric, device = Tokens(), next(self.model.parameters()).device
        order = np.argsort([len(example.source) for example in examples], kind="stable")
        for rows in (order[i : i + AT_ONCE] for i in range(0, len(order), AT_ONCE)):
            batch = collate_pairs([examples[i] for i in rows])
            context = self._encoded(batch)
            logp, _ = self.model(batch.x.to(device), None, context, lengths=batch.lengths)
            nats = -logp.gather(-1, batch.target.to(device)[..., None])[..., 0][batch.supervised.to(device)]
            metric.update(float(nats.sum()), int(batch.lengths.sum()))
        return metric

    def cut(self, text: str) -> Sequence[Hashable]:
        """What is counted as a token."""
        return list(text) if self.target.unit in ("character", "byte") else text.split()

    def score(self, found: Sequence[Pair]) -> tuple[Scores, dict[str, str]]:
        """How well it writes, and what sacrebleu says of how that was computed; edits alone where it is missing."""
        texts, references = [pair.source for pair in found], [pair.targets for pair in found]
        written = self.write(texts)
        try:
            ours, given = self._sequences(written, references), self._sequences(texts, references)
        except ConfigError as error:
            say(f"bleu and chrf are left out: {error}")
            scores = self.edits(written, references), {"source": self.edits(texts, references)}, len(found)
            return scores, {}
        return (ours.result(), {"source": given.result()}, len(found)), ours.signatures

    def _sequences(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> Sequences:
        metric = Sequences(self.cut)
        metric.update([self._as_written(text) for text in texts], [list(map(self._as_written, r)) for r in references])
        return metric

    def edits(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Edits and matches alone, of texts as they could be written at best."""
        metric, cut = Edits(), lambda text: self.cut(self._as_written(text))
        metric.update([cut(text) for text in texts], [[cut(text) for text in known] for known in references])
        return metric.result()

    def _as_written(self, text: str) -> str:
        """A text as it could be written at best: words have blanks between them, and perhaps no capitals."""
        target = self.target
        text = text.lower() if isinstance(target, Known) and target.lowercase else text
        return " ".join(target.cut(text)) if isinstance(target, Words) else text

    def evaluate(self, tables: list[Table]) -> Scores:
        return self.score(pairs.of_tables(tables, *self.columns))[0]

    def predictions(self, table: Table, horizon: int = 0, nbest: int = 1) -> Predictions:
        """One row a source, or `nbest` of them, the best first."""
        texts = pairs.sources(table, column_name(table, self.columns.source))
        rows = [
            [row, rank, self.spelt(text, one.units), one.score, -one.logp]
            for row, text, hypotheses in zip(table.lines, texts, self.search(texts, nbest), strict=True)
            for rank, one in enumerate(hypotheses, 1)
        ]
        return Predictions(["row", "rank", self.columns.target, "score", "nats"], rows)

    @torch.no_grad()
    def alignment(self, text: str) -> tuple[list[str], list[str], np.ndarray]:
        """The units of a source, those written for it and the end, and where each looked: (T, S)."""
        best = self.search([text])[0]
        units, written = self.source.encode(text), np.array(best[0].units if best else [], dtype=np.int64)
        copied, words = self.target.read(text) if self.copies else (None, [])
        batch = collate_pairs([PairExample(units, written, copied)])
        weights = self.model.alignment(batch.x, self._encoded(batch))[0].double().cpu().numpy()
        source = [self.source.decode([int(n)]) for n in units[:, 0]]
        return source, [*(self.target.decode([int(n)], words) for n in written), "end"], weights
