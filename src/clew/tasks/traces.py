"""Generate, of numbers: the next step of a trace drawn from a mixture of Gaussians (handwriting, any path).

read         a column of lists of steps, each of as many numbers, or of numbers, one a step; what is only 0 or 1 in the
             training part is a flag (a pen that is lifted)
model        a stack of recurrences and a mixture density (`models.heads.mixture`); whether a step is the last is a flag
             too
baseline     one Gaussian, and the flags' frequencies
metrics      nats, bits, perplexity, each of a step, in the data's own units (densities: they may be under 0)
predictions  how well each document is foreseen

T steps, D numbers, F flags
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clew.config import Recipe
from clew.data.batch import Example
from clew.data.lists import sequences
from clew.data.numbers import steps_of_line
from clew.data.series import Scaler
from clew.data.split import key_of_array
from clew.data.table import Table
from clew.errors import DataError, read_back
from clew.metrics import Tokens
from clew.models import Single, body_of
from clew.models.heads.mixture import MixtureHead
from clew.tasks import continuing
from clew.tasks.base import Cells, Heard, Job
from clew.tasks.continuing import Continuer, Document
from clew.tasks.plain import Plain

KIND = "traces"


class Tracer(Continuer):
    """A trained model of the next numbers. It reads (T, C + 1): the C numbers of a step, standardised, flags as they
    are, and a flag before the first.

    Args:
        scaler: of the D columns that are no flags.
        flags: which of the C columns are.
        shares: (F + 1,) how often each flag is 1 in the training part, and how often a step is the last.
        factor: (D, D) of the training part's covariance, standardised: its Cholesky factor.
    """

    reads_text = reads_line_ends = False

    def __init__(
        self, model: Single, column: str, scaler: Scaler, flags: Sequence[bool], shares: np.ndarray, factor: np.ndarray
    ) -> None:
        self.model, self.column, self.scaler, self.shares, self.factor = model, column, scaler, shares, factor
        self.flags = np.array(flags, dtype=bool)

    @property
    def wide(self) -> int:
        return self.head.readout.out_features

    @property
    def head(self) -> MixtureHead:
        assert isinstance(self.model.head, MixtureHead)
        return self.model.head

    def to_json(self) -> dict[str, Any]:
        found = {"kind": KIND, "column": self.column, "scaler": self.scaler.to_json(), "flags": self.flags.tolist()}
        return {**found, "shares": self.shares.tolist(), "factor": self.factor.tolist()}

    def read(self, table: Table) -> Sequence[np.ndarray]:
        return sequences(table, [self.column])

    def example(self, document: Document) -> Example:
        raw = document.raw
        if raw.shape[1] != len(self.flags):
            what = f"steps of {raw.shape[1]} numbers, where the model reads {len(self.flags)}"
            hint = "write as many in each step of each row"
            raise DataError(what, file=document.file, row=document.row, column=self.column, hint=hint)
        given = raw[:, self.flags]
        if not np.isin(given, (0.0, 1.0)).all():
            at = ", ".join(str(i + 1) for i in np.flatnonzero(self.flags))
            what = f"number {at} of a step is a flag, 0 or 1, in the training part, and here it is another one"
            raise DataError(what, file=document.file, row=document.row, column=self.column, hint="correct it")
        seen = self._seen(raw)
        last = np.zeros((len(raw), 1))
        last[-1] = document.whole
        follows = np.concatenate([self.scaler.apply(raw[:, ~self.flags]), given, last], 1)
        return Example(np.concatenate([self.opening(), seen[:-1]]), follows.astype(np.float32))

    def surprise(self, predicted: Tensor, follows: Tensor) -> Tensor:
        """In the data's own units."""
        return self.head.surprise(predicted, follows) + float(np.log(self.scaler.std).sum())

    def baseline(self, examples: Sequence[Example]) -> dict[str, Tokens]:
        held_out, naive = np.concatenate([example.target for example in examples]).astype(np.float64), Tokens()
        D = len(self.scaler.mean)
        scaled = np.linalg.solve(self.factor, held_out[:, :D].T)
        nats = 0.5 * (scaled**2).sum(0) + np.log(np.diag(self.factor)).sum() + 0.5 * D * math.log(2 * math.pi)
        p, given = self.shares.clip(1e-6, 1 - 1e-6), held_out[:, D:]
        nats = nats - (given * np.log(p) + (1 - given) * np.log1p(-p)).sum(1) + np.log(self.scaler.std).sum()
        naive.update(float(nats.sum()), len(held_out))
        return {"gaussian": naive}

    def opening(self) -> np.ndarray:
        return np.eye(1, len(self.flags) + 1, len(self.flags), dtype=np.float32)

    def from_line(self, value: Any, before: Any = None) -> tuple[np.ndarray, Any]:
        names = [str(i) for i in range(1, len(self.flags) + 1)]
        return self._seen(steps_of_line(value, names)), None

    def plain(self) -> Plain:
        """What the distribution of the next step is made of, standardised; see `MixtureHead`."""
        mean, std = np.zeros(len(self.flags) + 1), np.ones(len(self.flags) + 1)
        mean[:-1][~self.flags], std[:-1][~self.flags] = self.scaler.mean, self.scaler.std
        inputs = [*(f"number {i + 1}" for i in range(len(self.flags))), "begins"]
        names = [f"mixture {i + 1}" for i in range(self.head.readout.out_features)]
        return Plain(self.model, inputs, names, lambda y: y, Scaler(mean, std), self.opening())

    def answer(self, heard: Heard, horizon: int = 0) -> dict[str, Any]:
        """How surprising what was read is, and the middle of the likeliest component of what comes next."""
        assert heard.before is not None, "a stream opens with what stands before all documents"
        foreseen = torch.from_numpy(np.concatenate([heard.before[None], heard.y[:-1]]))
        x = torch.as_tensor(heard.x[:, :-1], dtype=foreseen.dtype)
        numbers, given = x[:, ~self.flags], x[:, self.flags]
        follows = torch.cat([numbers, given, torch.zeros_like(x[:, :1])], 1)
        likely = self.head.draw(torch.from_numpy(heard.y[-1:]), torch.Generator(), 0.0)[0].double().numpy()
        nats = float(self.surprise(foreseen, follows).mean())
        return {"steps": len(heard.x), "nats": nats, "next": self._raw(likely).tolist()}

    @torch.no_grad()
    def compose(
        self, prompt: Sequence[Any], *, length: int, temperature: float, seed: int
    ) -> Iterator[list[float] | float]:
        """What follows the prompt: at most `length` steps, fewer where the document ends; a number where a step has
        one."""
        self.model.eval()
        draws = torch.Generator().manual_seed(seed)
        x = np.concatenate([self.opening(), *(self.from_line(step)[0] for step in prompt)])
        predicted, state = self.model(torch.from_numpy(x)[None])
        y_BP = predicted[:, -1]
        for _ in range(length):
            drawn = self.head.draw(y_BP, draws, temperature)[0].double().numpy()
            step = self._raw(drawn)
            yield step.tolist() if len(step) > 1 else float(step[0])
            if drawn[-1]:
                return
            y_BP, state = self.model.step(torch.from_numpy(self._seen(step[None])), state)

    def _seen(self, raw: np.ndarray) -> np.ndarray:
        """Steps as they are read: (T, C + 1)."""
        seen = np.zeros((len(raw), len(self.flags) + 1), np.float32)
        seen[:, :-1][:, ~self.flags] = self.scaler.apply(raw[:, ~self.flags])
        seen[:, :-1][:, self.flags] = raw[:, self.flags]
        return seen

    def _raw(self, drawn: np.ndarray) -> np.ndarray:
        """A step (C,) in the data's own units, from numbers and flags as they are drawn."""
        D, step = len(self.scaler.mean), np.zeros(len(self.flags))
        step[~self.flags] = self.scaler.invert(drawn[:D])
        step[self.flags] = drawn[D:-1]
        return step


def keys_of(raws: Sequence[np.ndarray]) -> list[Hashable]:
    """Equal for traces that are the same."""
    return [key_of_array(raw) for raw in raws]


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None, column: str) -> Job:
    recipe = continuing.without_units(recipe, "traces of numbers", "data.keys", "data.transpose")
    split = continuing.parts(recipe, tables, lambda table: sequences(table, [column]), keys_of)
    widths = {document.raw.shape[1]: document for document in split[0]}
    if len(widths) > 1:
        worst = widths[max(widths)]
        what = f"steps of {max(widths)} numbers, where others have {min(widths)}"
        raise DataError(what, file=worst.file, row=worst.row, column=column, hint="write as many in each step")
    steps = np.concatenate([document.raw for document in split[0]])
    flags = np.asarray(np.isin(steps, (0.0, 1.0)).all(0))
    if flags.all():
        hint = "lists of keys that sound together are written as numbers of keys"
        raise DataError("holds nothing but 0 and 1", file=tables[0].name, column=column, hint=hint)
    scaler = Scaler.fit(steps[:, ~flags])
    scaled = scaler.apply(steps[:, ~flags])
    factor = np.linalg.cholesky(np.atleast_2d(np.cov(scaled.T)) + 1e-6 * np.eye(scaled.shape[1]))
    ends = sum(document.whole for document in split[0]) / len(steps)
    shares = np.append(steps[:, flags].mean(0), ends)
    tracer = Tracer(_model(recipe, flags, cells), column, scaler, flags.tolist(), shares, factor)
    examples = [tracer.example(document) for document in split[0]]
    facts = {"numbers": int((~flags).sum()), "flags": int(flags.sum())}
    return continuing.job(recipe, tracer, examples, split, keys_of, {"inputs": [column], "target": ""}, facts)


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Tracer:
    with read_back(file):
        scaler, flags = Scaler.from_json(saved["scaler"]), np.array([bool(flag) for flag in saved["flags"]])
        shares, factor = np.array(saved["shares"], dtype=np.float64), np.array(saved["factor"], dtype=np.float64)
        D = len(scaler.mean)
        if D + flags.sum() != len(flags) or shares.shape != (flags.sum() + 1,) or factor.shape != (D, D):
            raise ValueError("numbers and flags that fit each other")
        if not D or not (np.diag(factor) > 0).all():
            raise ValueError("a covariance")
        column = str(saved["column"])
    return Tracer(_model(recipe, flags, cells), column, scaler, flags.tolist(), shares, factor)


def _model(recipe: Recipe, flags: np.ndarray, cells: Cells | None) -> Single:
    m, count = recipe.model, int(flags.sum())
    stack = body_of(m, len(flags) + 1, cells)
    return Single(stack, MixtureHead(stack.output_size, len(flags) - count, count + 1, m.components, m.dropout))
