"""Pointer networks: an encoder reads items, a decoder points at one after the other (Vinyals et al. 2015,
arXiv:1506.03134): an order, a selection, a way.

Places are numbered with the end: 0 is the end, and where every order begins; item i, counted from 0, is place i + 1.

B batch, S items, I numbers an item, P = S + 1 places, M width of what is encoded, T steps of an order, its end included
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.cells import Encoder, Recurrence
from clew.data.pair_batch import PairBatch
from clew.errors import NotCausalError
from clew.models.paired import ends
from clew.models.pointer_decoder import Items, Pointer, PointerState
from clew.models.source import Source
from clew.ops import definition as ref
from clew.tree import State

Reads = Literal["encoding", "item"]


class PointerNet(nn.Module):
    """An encoder and a pointer.

    Args:
        encoder: items (B, S, I) to what is pointed at (B, S, M).
        pointer: see `Pointer`; its decoder's summary is as wide as `summary_size(encoder)`.
        reads: what the decoder reads of the item that it pointed at: its encoding (M) or the item itself (I).

    Example:
        >>> model = PointerNet(encoder, pointer)
        >>> model.loss(batch).backward()
        >>> items = model.encode(items_BSI, lengths)
        >>> logp, state = model.step(place_B1, model.init_state(len(items_BSI), items), items)
    """

    def __init__(self, encoder: Recurrence | Encoder, pointer: Pointer, reads: Reads = "encoding") -> None:
        super().__init__()
        self.encoder, self.pointer, self.reads = encoder, pointer, reads
        self.end = nn.Parameter(0.1 * torch.randn(encoder.output_size))
        self.start = nn.Parameter(torch.zeros(encoder.input_size)) if reads == "item" else None

    def encode(self, items_BSI: Tensor, lengths: Tensor | None = None) -> Items:
        """The context of the pointer. A row may have no items."""
        values, _ = self.encoder(items_BSI, lengths=lengths)
        B, S, _ = items_BSI.shape
        real = ref.valid_steps(items_BSI, lengths)
        real = torch.ones(B, S, dtype=torch.bool, device=values.device) if real is None else real
        summary = ends(values, real, both=isinstance(self.encoder, Encoder))
        m_BPM = _behind(self.end, values)
        reads = m_BPM if self.start is None else _behind(self.start, ref.hide_padding(items_BSI, real))
        seen = keys = m_BPM
        if (glimpse := self.pointer.decoder.attend) is not None:
            keys, seen = glimpse.score.keys(m_BPM), glimpse.score.values(m_BPM)
        place_BP = torch.arange(S + 1, device=values.device).expand(B, -1)
        none_B = torch.zeros(B, dtype=torch.int64, device=values.device)
        source = Source(seen, keys, F.pad(real, (1, 0), value=True), summary, place_BP, none_B)
        return Items(source, self.pointer.score.keys(m_BPM), reads)

    def init_state(self, batch_size: int, context: State | None = None) -> PointerState:
        if context is None:
            raise NotCausalError(
                "this model reads all items before it points at one, so it cannot stream",
                hint="clew predict RUN FILE answers each row of a file; in Python give context=model.encode(items)",
            )
        return self.pointer.init_state(batch_size, context)

    def step(self, x_B1: Tensor, state: PointerState, context: State | None = None) -> tuple[Tensor, PointerState]:
        """Log-probabilities (B, P) of the next place, from the last one."""
        return self.pointer.step(x_B1, state, context)

    def forward(
        self,
        x_BT1: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Log-probabilities (B, T, P) of what follows each place."""
        return self.pointer(x_BT1, state, context, lengths=lengths, reset=reset)

    def loss(self, batch: PairBatch) -> Tensor:
        """The mean cross-entropy of places, the end among them: nats a step."""
        context = self.encode(batch.source, batch.source_lengths)
        logp_BTP, _ = self.pointer(batch.x, None, context, lengths=batch.lengths)
        real_BT = batch.supervised
        return F.nll_loss(logp_BTP[real_BT], batch.target[real_BT])


def _behind(first: Tensor, rest_BSM: Tensor) -> Tensor:
    """A learned vector before those of the items."""
    return torch.cat([first.expand(len(rest_BSM), 1, -1), rest_BSM], 1)
