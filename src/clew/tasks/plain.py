"""A trained model as numbers only: raw numbers in, numbers in the answers' own terms out; what can be exported."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from clew import tree
from clew.data.series import Scaler
from clew.errors import DataError
from clew.models import Single
from clew.tree import State

Says = Callable[[Tensor], Tensor]


class Plain(nn.Module):
    """One step from raw numbers to plain ones.

    Args:
        model: predicts from standardised numbers, or from units of text.
        inputs: what the I numbers of a step are called; one whole number where units are read.
        outputs: what the O numbers of an answer are called.
        says: predictions (B, ...) to answers (B, O).
        scaler: of the inputs; None where units are read, or numbers that are standardised already.
        opening: the steps (T, I) with which every stream begins, already standardised.
        units: how many units of text there are, where those are read.
        sizes: what a large difference of each answer is, in its own unit; 1 where nothing is said, as of probabilities.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Single,
        inputs: Sequence[str],
        outputs: Sequence[str],
        says: Says,
        scaler: Scaler | None = None,
        opening: np.ndarray | None = None,
        units: int = 0,
        sizes: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs, self.says = model, list(inputs), list(outputs), says
        self.reads_units, self.scaler, self.opening, self.units = units > 0, scaler, opening, units
        self.sizes = np.array([1.0] * len(self.outputs) if sizes is None else sizes)
        mean, std = (np.zeros(len(inputs)), np.ones(len(inputs))) if scaler is None else (scaler.mean, scaler.std)
        self.register_buffer("mean", torch.from_numpy(mean).float(), persistent=False)
        self.register_buffer("std", torch.from_numpy(std).float(), persistent=False)
        self.train(model.training)

    @torch.no_grad()
    def init_state(self, batch_size: int) -> State:
        """After the opening. Raises NotCausalError for a model that needs the future."""
        state = self.model.init_state(batch_size)
        if self.opening is not None and len(self.opening):
            x_1TI = torch.from_numpy(self.opening)[None]
            state = self.model(x_1TI.expand(batch_size, *x_1TI.shape[1:]), state)[1]
        return tree.detach(state)

    def step(self, x_BI: Tensor, state: State) -> tuple[Tensor, State]:
        """Answers (B, O) to raw numbers (B, I), and the state moved on."""
        y, state = self.model.step(x_BI if self.scaler is None else (x_BI - self.mean) / self.std, state)
        return self.says(y), state

    def forward(self, x_BTI: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Answers (B, T, O) to raw sequences, and the state after the last step."""
        state = self.init_state(len(x_BTI)) if state is None else state
        y, state = self.model(x_BTI if self.scaler is None else (x_BTI - self.mean) / self.std, state)
        return self.says(y.flatten(0, 1)).unflatten(0, x_BTI.shape[:2]), state

    def read(self, raw: np.ndarray) -> np.ndarray:
        """Raw numbers (..., I) as `inner` reads them: standardised in double precision, infinite where they are beyond
        single precision. Raises DataError for what is no unit."""
        if self.reads_units:
            if not ((raw >= 0) & (raw == np.floor(raw))).all() or not (raw[..., 0] < self.units).all():
                raise DataError(f"the units of text are the whole numbers 0 to {self.units - 1:,}")
            return raw.astype(np.int64)
        assert self.scaler is not None, "standardised already"
        with np.errstate(over="ignore"):
            return self.scaler.apply(raw).astype(np.float32)

    def inner(self) -> Plain:
        """The same from what `read` gives."""
        sizes = self.sizes.tolist()
        return Plain(self.model, self.inputs, self.outputs, self.says, None, self.opening, self.units, sizes)

    def blank(self, batch_size: int) -> Tensor:
        """An input (B, I) of zeros."""
        kind = torch.int64 if self.reads_units else torch.float32
        return torch.zeros(batch_size, len(self.inputs), dtype=kind)


def unscaled(scaler: Scaler, columns: slice = slice(None)) -> Says:
    """From standardised numbers (..., N) to raw ones."""
    mean, std = (torch.from_numpy(part[columns]).float() for part in (scaler.mean, scaler.std))
    return lambda y: y * std.to(y) + mean.to(y)
