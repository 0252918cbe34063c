"""Pooling: from a sequence to one vector, as recurrences, so that a pooled model streams like any other.

    y[t] = what the steps up to t come to: their sum, mean, maximum or attention-weighted mean

The answer for a whole sequence is the output of its last step; an answer can be had at every other one too.

    B batch, T time, H features, N numbers of state
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from clew.cells.base import Encoder, Recurrence, check_sequence
from clew.ops import definition as ref
from clew.ops import ragged
from clew.tree import State

LOWEST = -6e4  # under every feature, and a number in half precision too
BOUND = 10.0  # of attention's scores: e^10 to 1 is choice enough, and no sum of such terms overflows


class Pool(Recurrence):
    """What has been seen so far, gathered in one total (B, N).

    A subclass says what each step brings and how a total is read; `joined` is addition or the maximum.
    """

    joined: ClassVar[Literal["sum", "max"]] = "sum"
    anchor: Tensor

    def __init__(self, input_size: int, hidden_size: int | None = None) -> None:
        super().__init__(input_size, hidden_size or input_size)
        self.register_buffer("anchor", torch.zeros(()), persistent=False)  # where the state is, and in which precision

    @property
    def state_size(self) -> int:
        return self.input_size

    @abstractmethod
    def terms(self, x: Tensor) -> Tensor:
        """What steps (..., H) bring to the total: (..., N)."""

    def readout(self, total: Tensor) -> Tensor:
        """Outputs (..., H) from totals (..., N)."""
        return total

    def init_state(self, batch_size: int, context: State | None = None) -> Tensor:
        nothing = 0.0 if self.joined == "sum" else LOWEST
        return self.anchor.new_full((batch_size, self.state_size), nothing)

    def step(self, x_BI: Tensor, state: Tensor, context: State | None = None) -> tuple[Tensor, Tensor]:
        term = self.terms(x_BI)
        total = state + term if self.joined == "sum" else torch.maximum(state, term)
        return self.readout(total), total

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        before, initial = self.begin(x_BTI, state, context, lengths, reset)
        if not x_BTI.shape[1]:
            return x_BTI.new_zeros(x_BTI.shape[0], 0, self.output_size), before

        def kernel(x: Tensor, s: Tensor, n: Tensor | None) -> tuple[Tensor, Tensor]:
            term = self.terms(x)
            if self.joined == "sum":
                total = s[:, None] + term.cumsum(1)
            else:
                total = torch.maximum(s[:, None], term.cummax(1).values)
            return self.readout(total), total[:, -1] if n is None else ragged.last_real(total, s, n)

        return ragged.run(kernel, x_BTI, before, initial, lengths, reset)


class SumPool(Pool):
    """The sum of all steps, for what grows with the length (a molecule's weight)."""

    def terms(self, x: Tensor) -> Tensor:
        return x


class MaxPool(Pool):
    """The largest value that each feature has had."""

    joined = "max"

    def terms(self, x: Tensor) -> Tensor:
        return x


class MeanPool(Pool):
    """The mean of all steps."""

    @property
    def state_size(self) -> int:
        return self.input_size + 1

    def terms(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones_like(x[..., :1])], -1)

    def readout(self, total: Tensor) -> Tensor:
        return total[..., :-1] / total[..., -1:]


class AttentionPool(Pool):
    """The mean of all steps, weighted by a softmax of learned scores (Bahdanau et al. 2015; Yang et al. 2016, eq. 5-7).

    score[t] = 10 tanh(v tanh(W x[t] + b) / 10): bounded, so that the softmax can be summed up step by step.
    """

    def __init__(self, input_size: int, hidden_size: int | None = None) -> None:
        super().__init__(input_size, hidden_size)
        self.key = nn.Linear(input_size, input_size)
        self.score = nn.Linear(input_size, 1, bias=False)

    @property
    def state_size(self) -> int:
        return self.input_size + 1

    def terms(self, x: Tensor) -> Tensor:
        weight = torch.exp(BOUND * torch.tanh(self.score(torch.tanh(self.key(x))) / BOUND))
        return torch.cat([weight * x, weight], -1)

    def readout(self, total: Tensor) -> Tensor:
        return total[..., :-1] / total[..., -1:]


class BothEnds(Encoder):
    """Where each direction of a bidirectional layer ends: the last step of its first features, the first of its others.

    Args:
        forwards: features of the forward pass, which stand first.
        backwards: features of the backward pass.
    """

    def __init__(self, forwards: int, backwards: int) -> None:
        super().__init__()
        self.forwards, self.input_size, self.output_size = forwards, forwards + backwards, forwards + backwards

    def forward(
        self,
        x_BTI: Tensor,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        check_sequence(self, x_BTI, lengths, reset)
        B, T, _ = x_BTI.shape
        real_BT = ref.valid_steps(x_BTI, lengths)
        t_T = torch.arange(T, device=x_BTI.device)
        begins_BT = (t_T == 0).expand(B, T) if reset is None else reset | (t_T == 0)
        first_BT = torch.where(begins_BT, t_T, 0).cummax(1).values
        end_B1 = torch.full((B, 1), T, device=x_BTI.device) if lengths is None else lengths.to(x_BTI.device)[:, None]
        # The next beginning behind each step, the end of the row where there is none, less one.
        next_BT = torch.where(begins_BT, t_T, T).flip(1).cummin(1).values.flip(1)
        behind_BT = torch.cat([next_BT[:, 1:], next_BT.new_full((B, min(1, T)), T)], 1)
        last_BT = (torch.minimum(behind_BT, end_B1) - 1).clamp(min=0)
        f_BTF = ref.pick_steps(x_BTI[:, :, : self.forwards], last_BT)
        y_BTH = torch.cat([f_BTF, ref.pick_steps(x_BTI[:, :, self.forwards :], first_BT)], -1)
        return (y_BTH if real_BT is None else ref.hide_padding(y_BTH, real_BT)), ()


POOLS: dict[str, type[Pool]] = {"mean": MeanPool, "max": MaxPool, "sum": SumPool, "attention": AttentionPool}
