"""Recurrences whose memory is known, because it was built in."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clew.cells import LSTM, Recurrence
from clew.tree import State


class Delay(Recurrence):
    """y[t] = x[t - d]."""

    def __init__(self, size: int, steps: int) -> None:
        super().__init__(size, size)
        self.steps = steps
        self.anchor = torch.nn.Parameter(torch.zeros(()))

    def init_state(self, batch_size: int, context: State | None = None) -> Tensor:
        return self.anchor.new_zeros(batch_size, self.steps, self.input_size)

    def step(self, x_BI: Tensor, state: Tensor, context: State | None = None) -> tuple[Tensor, Tensor]:
        held = torch.cat([state, x_BI[:, None]], 1)
        return held[:, 0], held[:, 1:]


def pinned(keep: float, units: int = 6) -> LSTM:
    """An LSTM whose forget gates say `keep` whatever it reads; the others are half open, and little goes in."""
    cell = LSTM(2, units)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.weight_ih[2 * units : 3 * units] = 0.01
        assert cell.bias_ih is not None
        cell.bias_ih[units : 2 * units] = math.log(keep / (1 - keep))
    return cell
