"""A decoder that points: at each step a distribution over the items that were read, and over the end.

h[t], s' = decoder(m[x[t]], s)                        x[t] what was pointed at last: a place; the start is the end's
u[t, j]  = v' tanh(W h[t] + U m[j])                   Vinyals et al. 2015, arXiv:1506.03134, eq. 3; or another score
p[t]     = softmax over the free j of u[t, j], or of C tanh(u[t, j])
                                                      C: Bello et al. 2016, arXiv:1611.09940, appendix A.2
m[0] is a learned vector that stands for the end, m[j] the encoding of item j. Place 0 is always there; a place is not
free where there is no item, where it was pointed at and may not be again, and the end where items are still due. A
glimpse (Bello et al., section 4.1) is the decoder's own attention: it looks before it points, and points with
tanh(W [h; c]), where c is what it saw.

B batch, T steps, S items, P = S + 1 places, Q size of h, M of m, A of keys, R of what is read
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clew.cells import Recurrence
from clew.errors import ShapeError
from clew.models.decoder import Decoder, DecoderState
from clew.models.scores import AttendState, Score
from clew.models.source import Source
from clew.ops import definition as ref
from clew.tree import State

NOWHERE = AttendState(torch.empty(0), torch.empty(0))  # where a score that does not look back has looked


class Items(NamedTuple):
    """What is pointed at: the context of a pointer."""

    source: Source  # of P places, the end first: what the decoder knows
    keys: Tensor  # (B, P, A) what places are scored by
    reads: Tensor  # (B, P, R) what the decoder reads of a place that was pointed at


class PointerState(NamedTuple):
    decoder: DecoderState
    used: Tensor  # (B, P) bool, the items that were pointed at


class Pointer(Recurrence):
    """See above. x is a place (B, 1), whole numbers from 0 to S; y is as wide as the context has places.

    Args:
        decoder: reads (B, R); its outputs are what places are scored with.
        score: of outputs and keys; one that does not look back, of one head.
        clip: C; 0 for none.
        no_repeat: whether no item is pointed at twice.
        least: different items before the end may come; of rows with fewer, all.
        whole: whether all items come before the end.

    Raises:
        ShapeError: a score that needs to know where was looked before, or has several heads.
    """

    def __init__(
        self,
        decoder: Decoder,
        score: Score,
        *,
        clip: float = 0.0,
        no_repeat: bool = True,
        least: int = 0,
        whole: bool = False,
    ) -> None:
        super().__init__(1, decoder.output_size)
        if score.looks_back or score.heads > 1:
            what = "Pointer: a score that looks back, or of several heads, cannot point"
            raise ShapeError(what, hint="take additive, dot, bilinear or scaled_dot")
        self.decoder, self.score, self.clip = decoder, score, clip
        self.no_repeat, self.least, self.whole = no_repeat, least, whole

    @property
    def output_size(self) -> int:
        raise ShapeError("a pointer's output is as wide as its context has places", hint="ask y.shape[-1]")

    def init_state(self, batch_size: int, context: State | None = None) -> PointerState:
        items = read_items(context)
        return PointerState(self.decoder.init_state(batch_size, items.source), torch.zeros_like(items.source.real))

    def step(self, x_BI: Tensor, state: PointerState, context: State | None = None) -> tuple[Tensor, PointerState]:
        logp_B1P, state = self._point(x_BI[:, None], state, read_items(context), None)
        return logp_B1P[:, 0], state

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Log-probabilities (B, T, P) of what is pointed at after each place of x; 0 where padded."""
        before, initial = self.begin(x_BTI, state, context, lengths, reset)
        items = read_items(context)
        if reset is None:
            return self._point(x_BTI, before, items, lengths)
        P = items.keys.shape[1]
        return ref.scan(lambda x, s: self.step(x, s, items), x_BTI, before, initial, lengths, reset, output_size=P)

    def _point(
        self, x_BT1: Tensor, state: PointerState, items: Items, lengths: Tensor | None
    ) -> tuple[Tensor, PointerState]:
        real_BT = ref.valid_steps(x_BT1, lengths)
        x_BT1 = x_BT1 if real_BT is None else ref.hide_padding(x_BT1, real_BT)  # place 0, which is never used up
        place_BT = _places(x_BT1, items.keys.shape[1])
        h_BTQ, decoder = self.decoder(
            ref.pick_steps(items.reads, place_BT), state.decoder, items.source, lengths=lengths
        )
        hit_BTP = F.one_hot(place_BT, items.keys.shape[1]).bool()
        hit_BTP[..., 0] = False
        used_BTP = torch.cat([state.used[:, None], hit_BTP], 1).cumsum(1) > 0
        logp_BTP = self._scored(h_BTQ, used_BTP[:, 1:], items)
        logp_BTP = logp_BTP if real_BT is None else ref.hide_padding(logp_BTP, real_BT)
        return logp_BTP, PointerState(decoder, used_BTP[:, -1])

    def _scored(self, h_BTQ: Tensor, used_BTP: Tensor, items: Items) -> Tensor:
        u_BTP = self.score(h_BTQ, items.keys, NOWHERE)[:, 0]
        if self.clip:
            u_BTP = self.clip * torch.tanh(u_BTP)
        real_B1P = items.source.real[:, None]
        free_BTP = real_B1P & ~used_BTP if self.no_repeat else real_B1P.expand_as(used_BTP)
        if self.whole or self.least:
            due_B1 = real_B1P.sum(-1) - 1
            due_B1 = due_B1 if self.whole else due_B1.clamp(max=self.least)
            free_BTP = torch.cat([(used_BTP.sum(-1) >= due_B1)[..., None], free_BTP[..., 1:]], -1)
        return u_BTP.masked_fill(~free_BTP, -math.inf).log_softmax(-1)


def _places(x_BT1: Tensor, places: int) -> Tensor:
    """Whole numbers (B, T), or ShapeError where the context has no such place."""
    place_BT = x_BT1[..., 0].long()
    if place_BT.numel() and not 0 <= int(place_BT.min()) <= int(place_BT.max()) < places:
        what = f"a place that is not there: {places - 1} items have the places 0 to {places - 1}"
        raise ShapeError(what, hint="0 is the end, item i, counted from 0, is place i + 1")
    return place_BT


def read_items(context: State | None) -> Items:
    """The context of a pointer.

    Raises:
        ShapeError: there is none.
    """
    if not isinstance(context, Items):
        raise ShapeError("a pointer reads items, and was given none", hint="give context=model.encode(items, lengths)")
    return context
