"""A model of sparse events: a probability at each step, and the peaks of it."""

from __future__ import annotations

import torch
from torch import Tensor

from clew.cells import Encoder, Recurrence
from clew.models.heads.events import EventHead
from clew.models.peaks import Peaks
from clew.models.single import Single
from clew.tree import State


class Detector(Single):
    """Predicts (..., 2): how likely an event is at this step, and whether there was one `peaks.wait` steps ago.

    Its state is the body's and what the peaks are told from.
    """

    def __init__(self, body: Recurrence | Encoder, head: EventHead, peaks: Peaks) -> None:
        super().__init__(body, head)
        self.peaks = peaks

    def init_state(self, batch_size: int, context: State | None = None) -> State:
        return super().init_state(batch_size, context), self.peaks.init_state(batch_size)

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        body, peaks = (None, None) if state is None else state
        p_BT1, body = super().forward(x_BTI, body, context, lengths=lengths, reset=reset)
        fires_BT1, peaks = self.peaks(p_BT1, peaks, lengths=lengths, reset=reset)
        return torch.cat([p_BT1, fires_BT1], -1), (body, peaks)

    def step(self, x_BI: Tensor, state: State, context: State | None = None) -> tuple[Tensor, State]:
        p_B1, body = super().step(x_BI, state[0], context)
        fires_B1, peaks = self.peaks.step(p_B1, state[1])
        return torch.cat([p_B1, fires_B1], -1), (body, peaks)
