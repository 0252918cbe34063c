"""A trained model of unaligned texts: sounds in, texts out, whole or as a stream."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from clew.config import Decode, build
from clew.data.inputs import Input, TextInput
from clew.data.pair_batch import PairExample, collate_pairs
from clew.data.table import Table, labels
from clew.data.vocabulary import UNKNOWN, Vocabulary
from clew.decode.ctc import LanguageModel, Spoken, best_path, prefix_beam
from clew.errors import DataError
from clew.models.unaligned import BLANK, Unaligned
from clew.tasks import writing
from clew.tasks.base import Heard, Predictions, Scores
from clew.tasks.language import language_of
from clew.tasks.records import Record, gather, steps_of
from clew.training.feed import to_device

AT_ONCE = 32  # sequences that are read together


class Transcriber:
    """A trained model of unaligned texts.

    Args:
        commonest: the text that the training part has most often.
    """

    reads_text = reads_line_ends = False

    def __init__(
        self, model: Unaligned, source: Input, column: str, target: Vocabulary, commonest: str, decode: Decode
    ) -> None:
        self.model, self.source, self.column, self.target = model, source, column, target
        self.commonest, self.decode = commonest, decode
        self._language: LanguageModel | None = None

    def to_json(self) -> dict[str, Any]:
        saved = {"input": self.source.to_json(), "column": self.column, "target": self.target.to_json()}
        return {**saved, "commonest": self.commonest}

    def searching(self, **changes: Any) -> Transcriber:
        """The same model with other words on how texts are found: see the recipe's [decode]."""
        decode = build({"decode": self.decode.model_dump() | changes}).decode
        return Transcriber(self.model, self.source, self.column, self.target, self.commonest, decode)

    def read(self, tables: Sequence[Table]) -> list[Record]:
        return gather(tables, self.source, lambda table, _: labels(table, self.column))

    def example(self, record: Record) -> PairExample:
        """What is learned from; units that are not known are left out."""
        units = self.target.write(record.answer, ())
        if UNKNOWN in self.target.unwritable:
            units = units[units != UNKNOWN]
        return PairExample(steps_of(self.source, record), units)

    def refuse_narrow(self, record: Record, units: np.ndarray) -> None:
        """Raise DataError where a text is too long for its sound."""
        steps, needed = self.model.steps(len(record.raw)), len(units) + sum(a == b for a, b in pairwise(units.tolist()))
        if needed > steps:
            what = f"a text of {len(units)} units has no room in {steps} steps"
            hint = "correct the row, or set model.subsample lower"
            raise DataError(what, file=record.file, row=record.row, column=self.column, hint=hint)

    @torch.no_grad()
    def outputs(self, xs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Log-probabilities (M, V) of each sequence."""
        self.model.eval()
        found: list[np.ndarray] = [np.empty(0)] * len(xs)
        device = next(self.model.parameters()).device
        order = np.argsort([-len(x) for x in xs], kind="stable")
        for rows in (order[i : i + AT_ONCE] for i in range(0, len(order), AT_ONCE)):
            batch = collate_pairs([PairExample(xs[i], np.zeros(0, np.int64)) for i in rows])
            logp = self.model(batch.source.to(device), lengths=batch.source_lengths.to(device))[0].double().cpu()
            for i, row in zip(rows, logp.numpy(), strict=True):
                found[i] = row[: self.model.steps(len(xs[i]))]
        return found

    def search(self, xs: Sequence[np.ndarray], nbest: int = 1) -> list[list[Spoken]]:
        """The best texts of each sequence, in units, the best first."""
        d = self.decode
        if d.language and self._language is None:
            self._language = language_of(d.language, self.target)
        found = []
        for logp in self.outputs(xs):
            if max(d.beam, nbest) == 1 and not d.language:
                units = best_path(logp, BLANK)
                found.append([Spoken(units, *[float(logp.max(-1).sum())] * 2)])
                continue
            how = {"weight": d.language_weight, "bonus": d.unit_bonus}
            found.append(prefix_beam(logp, BLANK, width=max(d.beam, nbest), language=self._language, **how)[:nbest])
        return found

    def write(self, records: Sequence[Record]) -> list[str]:
        best = self.search([steps_of(self.source, record) for record in records])
        return [self.target.decode(found[0].units) for found in best]

    @torch.no_grad()
    def surprise(self, examples: Sequence[PairExample]) -> float:
        """The mean loss of a unit."""
        self.model.eval()
        device, total, count = next(self.model.parameters()).device, 0.0, 0
        for i in range(0, len(examples), AT_ONCE):
            batch = collate_pairs(examples[i : i + AT_ONCE])
            total += float(self.model.loss(to_device(batch, device))) * batch.losses
            count += batch.losses
        return total / count

    def metrics(self, written: Sequence[str], records: Sequence[Record]) -> dict[str, float]:
        found = writing.errors(self.target, written, [record.answer for record in records])
        return {name: found[name] for name in ("wer", "cer", "exact")}

    def score(self, records: Sequence[Record]) -> Scores:
        naive = self.metrics([self.commonest] * len(records), records)
        return self.metrics(self.write(records), records), {"commonest": naive}, len(records)

    def evaluate(self, tables: list[Table]) -> Scores:
        return self.score(self.read(tables))

    def predictions(self, table: Table, horizon: int = 0, nbest: int = 1) -> Predictions:
        records = gather([table], self.source, lambda table, source: [None] * table.rows)
        best = self.search([steps_of(self.source, record) for record in records], nbest)
        rows = [
            [record.row, rank, self.target.decode(one.units), one.score, -one.logp]
            for record, found in zip(records, best, strict=True)
            for rank, one in enumerate(found, 1)
        ]
        return Predictions(["row", "rank", self.column, "score", "nats"], rows)

    def opening(self) -> np.ndarray:
        assert not isinstance(self.source, TextInput)
        return np.empty((0, self.source.channels))

    def from_line(self, value: Any, before: Any = None) -> tuple[np.ndarray, Any]:
        return self.source.from_line(value, before)

    def answer(self, heard: Heard, horizon: int = 0) -> dict[str, Any]:
        """What was said since the last line: the likeliest unit of each step, as the best path of the whole has it."""
        last = None if heard.before is None else int(heard.before[0].argmax())
        units = best_path(heard.y[0].double().cpu().numpy(), BLANK, last)
        return {"steps": heard.y.shape[1], "text": self.target.decode(units)}
