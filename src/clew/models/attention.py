"""Attention over an encoded source: where a decoder looks, and what it sees there.

a[t]  = softmax over the real s of score(h[t], m[s])          see `scores`
c[t]  = sum over s of a[t, s] m[s]
y[t]  = tanh(W [h[t]; c[t]])                                   Luong et al. 2015, arXiv:1508.04025, eq. 5

As a recurrence: x is the decoder's h, the source is its context, and the state is where it has looked. Over a source
of length 0 all weights are 0.

B batch, T steps of the decoder, S of the source, Q size of h, M of m, N heads
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from clew.cells import Recurrence
from clew.models.scores import AttendState, Score
from clew.models.source import Source, read_source
from clew.ops import definition as ref
from clew.tree import State


class Attend(Recurrence):
    """What a decoder makes of its state and of what it sees of the source.

    Args:
        score: how it looks for places.
        query: Q, the width of x.
        value: M, the width of what was encoded.
        width: of y.

    Example:
        >>> attend = Attend(Additive(64, 128), 64, 128, 64)
        >>> y, state = attend(h_BTQ, None, source)
        >>> y, weights_BTS, state = attend.traced(h_BTQ, attend.init_state(B, source), source, None)
    """

    def __init__(self, score: Score, query: int, value: int, width: int) -> None:
        super().__init__(query, width)
        self.score, self.value = score, value
        self.combine = nn.Linear(query + value, width, bias=False)

    def init_state(self, batch_size: int, context: State | None = None) -> AttendState:
        source = read_source(context)
        zeros = source.values.new_zeros(batch_size, source.values.shape[1])
        return AttendState(zeros, zeros.clone())

    def step(self, x_BI: Tensor, state: AttendState, context: State | None = None) -> tuple[Tensor, AttendState]:
        y_B1H, weights_B1S = self.look(x_BI[:, None], state, read_source(context))
        return y_B1H[:, 0], AttendState(weights_B1S[:, 0], state.seen + weights_B1S[:, 0])

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        if self.score.looks_back or reset is not None or not x_BTI.shape[1]:
            return super().forward(x_BTI, state, context, lengths=lengths, reset=reset)
        before: AttendState = self.begin(x_BTI, state, context, lengths, None)[0]
        y_BTH, _, state = self.traced(x_BTI, before, context, lengths)
        return y_BTH, state

    def traced(
        self, x_BTQ: Tensor, before: AttendState, context: State | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, AttendState]:
        """`forward` of a score that does not look back, over at least one step; and where it looked, (B, T, S)."""
        real_BT = ref.valid_steps(x_BTQ, lengths)
        if real_BT is None:
            y_BTH, weights_BTS = self.look(x_BTQ, before, read_source(context))
            return y_BTH, weights_BTS, AttendState(weights_BTS[:, -1], before.seen + weights_BTS.sum(1))
        y_BTH, weights_BTS = self.look(ref.hide_padding(x_BTQ, real_BT), before, read_source(context))
        y_BTH, weights_BTS = ref.hide_padding(y_BTH, real_BT), ref.hide_padding(weights_BTS, real_BT)
        shown_BTS = torch.cat([before.last[:, None], weights_BTS], 1)
        last = shown_BTS[torch.arange(len(shown_BTS)), real_BT.sum(1)]
        return y_BTH, weights_BTS, AttendState(last, before.seen + weights_BTS.sum(1))

    def look(self, x_BTQ: Tensor, state: AttendState, source: Source) -> tuple[Tensor, Tensor]:
        """Outputs (B, T, H), and where they come from, (B, T, S), the mean over heads."""
        weights_BNTS = weights_of(self.score(x_BTQ, source.keys, state), source.real)
        values_BNSM = source.values.unflatten(-1, (self.score.heads, -1)).transpose(1, 2)
        c_BTM = (weights_BNTS @ values_BNSM).transpose(1, 2).flatten(2)
        return torch.tanh(self.combine(torch.cat([x_BTQ, c_BTM], -1))), weights_BNTS.mean(1)


def weights_of(score_BNTS: Tensor, real_BS: Tensor) -> Tensor:
    """The softmax over what is real; 0 where nothing is."""
    real = real_BS[:, None, None]
    found = score_BNTS.masked_fill(~real, -math.inf)
    found = found.masked_fill(~real.any(-1, keepdim=True), 0.0)  # a softmax of nothing would be NaN, gradient too
    return torch.where(real, found.softmax(-1), 0.0)


def entropy(weights: Tensor) -> Tensor:
    """-sum of a ln a over the last dimension, in nats."""
    return torch.special.entr(weights).sum(-1)


def entropy_ratio(weights_BTS: Tensor, real_BS: Tensor) -> Tensor:
    """The entropy (B, T) of an alignment beside that of looking everywhere alike, ln S: 0 for one place, 1 for all."""
    most_B1 = real_BS.sum(1, keepdim=True).clamp(min=2).log()
    return entropy(weights_BTS) / most_B1
