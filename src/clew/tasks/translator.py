"""A trained model of pairs: texts in, texts out, the best that a search finds."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from clew.config import Decode
from clew.data import pairs
from clew.data.pair_batch import PairExample, collate_pairs
from clew.data.pairs import Pair
from clew.data.table import Table, column_name
from clew.data.vocabulary import Vocabulary
from clew.decode import Hypothesis
from clew.errors import ConfigError
from clew.metrics import Edits, Sequences
from clew.models.heads.copying import CopyHead
from clew.models.paired import Paired
from clew.tasks import writing
from clew.tasks.base import Predictions, Scores, Searching, Shown, say
from clew.tasks.records import spread


class Columns(NamedTuple):
    source: str
    target: str


class Translator(Searching):
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

    @property
    def copies(self) -> bool:
        return isinstance(self.model.head, CopyHead)

    def examples(self, some: Sequence[Pair]) -> list[PairExample]:
        """What is learned from: one for each target."""
        return pairs.encode(some, self.source, self.target, self.copies)

    def search(self, texts: Sequence[str], nbest: int = 1) -> list[list[Hypothesis]]:
        """The best texts for each source, as units, and what they are worth."""
        nothing = np.zeros(0, np.int64)
        sources = [
            PairExample(self.source.encode(text), nothing, self.target.read(text)[0] if self.copies else None)
            for text in texts
        ]
        return writing.search(self.model, sources, self.target, self.decode, self.longest, nbest)

    def write(self, texts: Sequence[str]) -> list[str]:
        """The best text for each."""
        best = zip(texts, self.search(texts), strict=True)
        return [self.spelt(text, found[0].units) if found else "" for text, found in best]

    def spelt(self, text: str, units: Sequence[int]) -> str:
        """Units that were written for a text, as a text."""
        return self.target.decode(units, self.target.read(text)[1] if self.copies else ())

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
        best = functools.partial(writing.as_written, self.target)
        metric.update([best(text) for text in texts], [list(map(best, known)) for known in references])
        return metric

    def edits(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
        """Edits and matches alone, of texts as they could be written at best."""
        metric, cut = Edits(), lambda text: self.cut(writing.as_written(self.target, text))
        metric.update([cut(text) for text in texts], [[cut(text) for text in known] for known in references])
        return metric.result()

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

    def shown(self, tables: list[Table], most: int) -> list[Shown]:
        found = []
        some = spread(pairs.of_tables(tables, *self.columns), most)
        for pair, text in zip(some, self.write([pair.source for pair in some]), strict=True):
            wrong = self.edits([text], [pair.targets])["token_error"]
            place = f"{pair.file}, row {pair.row}"
            found.append(Shown(place, self.examples([pair])[0], " | ".join(pair.targets), text, wrong))
        return found

    @torch.no_grad()
    def alignment(self, text: str) -> tuple[list[str], list[str], np.ndarray]:
        """The units of a source, those written for it and the end, and where each looked: (T, S)."""
        best = self.search([text])[0]
        units, written = self.source.encode(text), np.array(best[0].units if best else [], dtype=np.int64)
        copied, words = self.target.read(text) if self.copies else (None, [])
        batch = collate_pairs([PairExample(units, written, copied)])
        weights = self.model.alignment(batch.x, writing.encoded(self.model, batch))[0].double().cpu().numpy()
        source = [self.source.decode([int(n)]) for n in units[:, 0]]
        return source, [*(self.target.decode([int(n)], words) for n in written), "end"], weights
