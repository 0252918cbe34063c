"""A decoder: any recurrence that reads an encoded source as its context, unit by unit.

e[t]     = embed(x[t])                                           x[t] the unit before: given, or the decoder's own
h[t], s' = body([e[t]; z; y[t-1]], s)                            z the source's summary, y[t-1] where inputs are fed
y[t]     = attend(h[t], source), or h[t] without attention

fixed    z is read at every step: all that a decoder without attention knows (Cho et al. 2014, arXiv:1406.1078, 2.2)
feed     y[t-1] is read: where it looked before (Luong et al. 2015, arXiv:1508.04025, section 3.3)
bridge   the body begins in the state that it has after one step on W z: so any recurrence can begin in what the
         encoder ended with, whatever its state looks like

Without `feed` a whole sequence is one pass of the body's kernels and one of attention; with it steps follow each other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from clew.cells import Pointwise, Recurrence
from clew.errors import ShapeError
from clew.models.attention import Attend
from clew.models.source import read_source
from clew.ops import definition as ref
from clew.ops.dropout import dropout as dropped
from clew.tree import State


class DecoderState(NamedTuple):
    body: State
    attend: State  # () without attention
    last: Tensor | tuple[()]  # (B, H) what was put out last; () where it is not fed back


class Decoder(Recurrence):
    """See above.

    Args:
        embed: units (or whatever x is) to features, each step by itself.
        body: reads [e; z where `fixed`; y where `feed`].
        summary: width of z.
        attend: None for a decoder that knows the source by its summary alone.
        fixed: whether z is read at every step; else the bridge alone brings it.
        feed: whether the last output is.
        dropout: of the units' features, in training.

    Raises:
        ShapeError: the body does not take what it would be given.
    """

    def __init__(
        self,
        embed: Pointwise,
        body: Recurrence,
        summary: int,
        *,
        attend: Attend | None = None,
        fixed: bool = False,
        feed: bool = False,
        dropout: float = 0.0,
    ) -> None:
        top = attend or body
        super().__init__(embed.input_size, top.output_size)
        takes = embed.output_size + fixed * summary + feed * top.output_size
        if body.input_size != takes:
            raise ShapeError(f"Decoder: the body must take {takes} features, it takes {body.input_size}")
        if attend and attend.input_size != body.output_size:
            hint = f"{attend.input_size} and {body.output_size} features"
            raise ShapeError("Decoder: attention must take what the body gives", hint=hint)
        self.embed, self.body, self.attend, self.fixed, self.feed = embed, body, attend, fixed, feed
        self.dropout = dropout
        self.bridge = nn.Linear(summary, body.input_size)

    def init_state(self, batch_size: int, context: State | None = None) -> DecoderState:
        source = read_source(context)
        begun = self.body.init_state(batch_size, context)
        body = self.body.step(torch.tanh(self.bridge(source.summary)), begun, context)[1]
        attend = self.attend.init_state(batch_size, context) if self.attend else ()
        last = source.summary.new_zeros(batch_size, self.output_size) if self.feed else ()
        return DecoderState(body, attend, last)

    def step(self, x_BI: Tensor, state: DecoderState, context: State | None = None) -> tuple[Tensor, DecoderState]:
        read = [dropped(self.embed.step(x_BI, (), context)[0], self.dropout, self.training)]
        if self.fixed:
            read.append(read_source(context).summary)
        if isinstance(state.last, Tensor):
            read.append(state.last)
        y, body = self.body.step(torch.cat(read, -1), state.body, context)
        attend = state.attend
        if self.attend:
            y, attend = self.attend.step(y, attend, context)
        return y, DecoderState(body, attend, y if self.feed else ())

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        if reset is not None:
            return super().forward(x_BTI, state, context, lengths=lengths, reset=reset)
        y_BTH, _, state = self.traced(x_BTI, state, context, lengths=lengths)
        return y_BTH, state

    def traced(
        self, x_BTI: Tensor, state: State | None = None, context: State | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor, DecoderState]:
        """`forward`, and where it looked at each step, (B, T, S): 0 where padded, and nowhere without attention."""
        before: DecoderState = self.begin(x_BTI, state, context, lengths, None)[0]
        (B, T, _), S = x_BTI.shape, read_source(context).values.shape[1]
        if self.feed or (self.attend and self.attend.score.looks_back) or not T:
            return self._step_by_step(x_BTI, before, context, lengths, S)
        h, body = self.body(self._read(x_BTI, context, lengths), before.body, context, lengths=lengths)
        if not self.attend:
            return h, h.new_zeros(B, T, S), DecoderState(body, (), ())
        y, weights, attend = self.attend.traced(h, before.attend, context, lengths)
        return y, weights, DecoderState(body, attend, ())

    def _step_by_step(
        self, x_BTI: Tensor, before: DecoderState, context: State | None, lengths: Tensor | None, S: int
    ) -> tuple[Tensor, Tensor, DecoderState]:
        def step(x_BI: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
            y_BH, state = self.step(x_BI, state, context)
            return torch.cat([y_BH, state.attend.last if self.attend else y_BH.new_zeros(len(y_BH), S)], -1), state

        H = self.output_size
        both, state = ref.scan(step, x_BTI, before, before, lengths, None, output_size=H + S)
        return both[..., :H], both[..., H:], state

    def _read(self, x_BTI: Tensor, context: State | None, lengths: Tensor | None) -> Tensor:
        e_BTE = dropped(self.embed(x_BTI, None, context, lengths=lengths)[0], self.dropout, self.training)
        if not self.fixed:
            return e_BTE
        z_B1C = read_source(context).summary[:, None]
        return torch.cat([e_BTE, z_B1C.expand(-1, e_BTE.shape[1], -1)], -1)
