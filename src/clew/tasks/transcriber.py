"""A trained model of unaligned texts: sounds in, texts out, whole or as a stream."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from clew.config import Decode
from clew.data.pair_batch import PairExample, collate_pairs
from clew.data.vocabulary import UNKNOWN
from clew.decode.ctc import Spoken, best_path, prefix_beam
from clew.errors import DataError, NotCausalError
from clew.models.unaligned import BLANK, Unaligned
from clew.tasks.base import Heard
from clew.tasks.language import language_of
from clew.tasks.plain import Plain
from clew.tasks.records import Record, steps_of
from clew.tasks.saying import Said, Sayer
from clew.training.feed import to_device

AT_ONCE = 32  # sequences that are read together


class Transcriber(Sayer):
    """A trained model of unaligned texts."""

    metric_names = ("wer", "cer", "exact")
    reads_text = reads_line_ends = False

    def __init__(self, model: Unaligned, said: Said, decode: Decode) -> None:
        super().__init__(said, decode)
        self.model = model

    def to_json(self) -> dict[str, Any]:
        return self.said.to_json()

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
            raise DataError(what, file=record.file, row=record.row, column=self.said.column, hint=hint)

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

    def search(self, records: Sequence[Record], nbest: int = 1) -> list[list[Spoken]]:
        d, found = self.decode, []
        language = language_of(d.language, self.target) if d.language else None
        for logp in self.outputs([steps_of(self.source, record) for record in records]):
            if max(d.beam, nbest) == 1 and not language:
                found.append([Spoken(best_path(logp, BLANK), *[float(logp.max(-1).sum())] * 2)])
                continue
            how = {"weight": d.language_weight, "bonus": d.unit_bonus}
            found.append(prefix_beam(logp, BLANK, width=max(d.beam, nbest), language=language, **how)[:nbest])
        return found

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

    def opening(self) -> np.ndarray:
        return np.empty((0, self.source.channels))

    def from_line(self, value: Any, before: Any = None) -> tuple[np.ndarray, Any]:
        return self.source.from_line(value, before)

    def plain(self) -> Plain:
        what = "this model makes fewer steps than it reads, so it is no step of numbers"
        raise NotCausalError(what, hint="run it with clew stream")

    def answer(self, heard: Heard, horizon: int = 0) -> dict[str, Any]:
        """What was said since the last line: the likeliest unit of each step, as the best path of the whole has it."""
        last = None if heard.before is None else int(heard.before.argmax())
        units = best_path(heard.y.astype(np.float64), BLANK, last)
        return {"steps": len(heard.y), "text": self.target.decode(units)}
