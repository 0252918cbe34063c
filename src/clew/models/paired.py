"""Sequence to sequence: an encoder reads a source, a decoder writes a target, unit by unit.

(Sutskever et al. 2014, arXiv:1409.3215; with attention Bahdanau et al. 2015, arXiv:1409.0473.)

loss     of each unit given those before it (teacher forcing); with `sampling` some of those before it are the model's
         own (scheduled sampling, Bengio et al. 2015, arXiv:1506.03099)
coverage + weight * sum over s of min(a[t, s], what was seen of s before): who looks twice pays
         (See et al. 2017, arXiv:1704.04368, eq. 12)

B batch, S steps of the source, T of the target, V units
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clew.cells import Encoder, Recurrence
from clew.data.pair_batch import PairBatch
from clew.data.vocabulary import UNKNOWN
from clew.errors import ConfigError, NotCausalError
from clew.models.decoder import Decoder, DecoderState
from clew.models.heads.copying import CopyHead
from clew.models.single import Head
from clew.models.source import Source, read_source
from clew.ops import definition as ref
from clew.tree import State


class Paired(nn.Module):
    """An encoder, a decoder over any recurrence, and a head that owns loss and prediction.

    Args:
        encoder: units of the source (B, S, I) to what is attended to (B, S, M); its embedding is its first layer.
        decoder: see `Decoder`; its summary is as wide as `summary_size(encoder)`.
        head: of the decoder's outputs.
        sampling: the probability that the decoder reads its own likeliest unit in training, not the true one.
        coverage: weight of the coverage loss; 0 for none.

    Example:
        >>> model = Paired(encoder, decoder, head)
        >>> model.loss(batch).backward()
        >>> source = model.encode(units_BSI, lengths)
        >>> logp, state = model.step(x_B1, model.init_state(len(units_BSI), source), source)
    """

    def __init__(
        self,
        encoder: Recurrence | Encoder,
        decoder: Decoder,
        head: Head | CopyHead,
        *,
        sampling: float = 0.0,
        coverage: float = 0.0,
    ) -> None:
        super().__init__()
        if decoder.attend is None and (coverage or isinstance(head, CopyHead)):
            raise ConfigError("copying and coverage need a decoder with attention", hint="set model.attention")
        self.encoder, self.decoder, self.head = encoder, decoder, head
        self.sampling, self.coverage = sampling, coverage

    def encode(self, source_BSI: Tensor, lengths: Tensor | None = None, units_BS: Tensor | None = None) -> Source:
        """The context of the decoder. A source may be of length 0.

        Args:
            units_BS: what stands at each place as a unit of the target, for a model that copies; see `CopyHead`.
        """
        values, _ = self.encoder(source_BSI, lengths=lengths)
        B, S = values.shape[:2]
        real = ref.valid_steps(source_BSI, lengths)
        real = torch.ones(B, S, dtype=torch.bool, device=values.device) if real is None else real
        summary = ends(values, real, both=isinstance(self.encoder, Encoder))
        keys = values
        if self.decoder.attend is not None:
            score = self.decoder.attend.score
            keys, values = score.keys(values), score.values(values)
        units_BS = source_BSI[..., 0].long() if units_BS is None else units_BS
        extra = 0
        if isinstance(self.head, CopyHead) and units_BS.numel():
            extra = max(0, int(units_BS.max()) + 1 - self.head.size)
        return Source(values, keys, real, summary, units_BS, torch.full((B,), extra, device=values.device))

    def init_state(self, batch_size: int, context: State | None = None) -> DecoderState:
        if context is None:
            raise NotCausalError(
                "this model reads a whole source before it writes, so it cannot stream",
                hint="clew predict RUN FILE answers each row of a file; in Python give context=model.encode(units)",
            )
        return self.decoder.init_state(batch_size, context)

    def step(self, x_B1: Tensor, state: DecoderState, context: State | None = None) -> tuple[Tensor, DecoderState]:
        """Log-probabilities (B, V) of the next unit, from the last one."""
        y_BH, state = self.decoder.step(self._known(x_B1), state, context)
        return self._predict(y_BH, state.attend.last if self.decoder.attend else y_BH, read_source(context)), state

    def forward(
        self,
        x_BT1: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Log-probabilities (B, T, V) of what follows each unit of the target."""
        y_BTH, weights_BTS, state = self.decoder.traced(self._known(x_BT1), state, context, lengths=lengths)
        return self._predict(y_BTH, weights_BTS, read_source(context)), state

    def alignment(self, x_BT1: Tensor, context: Source, lengths: Tensor | None = None) -> Tensor:
        """Where it looks while it reads the units of a target from the beginning: (B, T, S), 0 where padded."""
        return self.decoder.traced(self._known(x_BT1), None, context, lengths=lengths)[1]

    def loss(self, batch: PairBatch) -> Tensor:
        """The mean loss of the target's units."""
        context = self.encode(batch.source, batch.source_lengths, batch.copied)
        x_BT1 = self._own(batch, context) if self.sampling and self.training else batch.x
        y_BTH, weights_BTS, _ = self.decoder.traced(self._known(x_BT1), None, context, lengths=batch.lengths)
        real_BT = batch.supervised
        y_NH, target_N = y_BTH[real_BT], batch.target[real_BT]
        if isinstance(self.head, CopyHead):
            units_BTS = context.units[:, None].expand_as(weights_BTS)
            loss = self.head.loss(y_NH, target_N, weights_BTS[real_BT], units_BTS[real_BT])
        else:
            loss = self.head.loss(y_NH, target_N)
        if self.coverage:
            seen_BTS = weights_BTS.cumsum(1) - weights_BTS
            loss = loss + self.coverage * torch.minimum(weights_BTS, seen_BTS).sum(-1)[real_BT].mean()
        return loss

    @torch.no_grad()
    def _own(self, batch: PairBatch, context: Source) -> Tensor:
        """The decoder's inputs, some of them in the place of the true ones its own guesses."""
        state, x_B1, read = self.init_state(len(batch.x), context), batch.x[:, 0], []
        for t in range(batch.x.shape[1]):
            own_B1 = torch.rand(len(x_B1), 1, device=x_B1.device) < self.sampling
            x_B1 = torch.where(own_B1, x_B1, batch.x[:, t]) if t else batch.x[:, 0]
            read.append(x_B1)
            logp_BV, state = self.step(x_B1, state, context)
            x_B1 = logp_BV.argmax(-1, keepdim=True)
        return torch.stack(read, 1)

    def _predict(self, y: Tensor, weights: Tensor, source: Source) -> Tensor:
        if isinstance(self.head, CopyHead):
            extra = source.extra
            return self.head.predict(y, weights, source.units, int(extra[0]) if isinstance(extra, Tensor) else 0)
        return self.head.predict(y)

    def _known(self, x: Tensor) -> Tensor:
        """Units as the decoder reads them: what was copied and is not known is the unknown one."""
        return torch.where(x < self.head.size, x, UNKNOWN) if isinstance(self.head, CopyHead) else x


def summary_size(encoder: Recurrence | Encoder) -> int:
    """The width of what an encoder ends with."""
    return encoder.output_size * (2 if isinstance(encoder, Encoder) else 1)


def ends(values_BSM: Tensor, real_BS: Tensor, both: bool) -> Tensor:
    """The last real step of each row, (B, M), with `both` the first one beside it; zeros where there is none."""
    if not values_BSM.shape[1]:
        return values_BSM.new_zeros(len(values_BSM), values_BSM.shape[2] * (1 + both))
    last_B = (real_BS.sum(1) - 1).clamp(min=0)
    last_BM = values_BSM[torch.arange(len(values_BSM), device=values_BSM.device), last_B]
    found = torch.cat([last_BM, values_BSM[:, 0]], -1) if both else last_BM
    return torch.where(real_BS.any(1, keepdim=True), found, 0.0)
