"""Units from a longer input, in order but with nobody saying where: connectionist temporal classification (Graves et
al. 2006, doi:10.1145/1143844.1143891).

p(units | x) = sum over all paths that come to them of prod over t of p(path[t] | x)

A path says a unit or a blank at each step; equal neighbours are one unit, and blanks are dropped.

B rows, T steps of the input, M steps after the subsampling, V units, of which the blank is one
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.cells import Encoder, Recurrence
from clew.data.pair_batch import PairBatch
from clew.data.vocabulary import END
from clew.errors import NotCausalError
from clew.models.subsample import Subsample, SubsampleState
from clew.ops import definition as ref
from clew.ops.dropout import dropout
from clew.tree import State

BLANK = END  # a unit that no text holds


class UnalignedState(NamedTuple):
    front: SubsampleState
    body: State


class Unaligned(nn.Module):
    """A front that makes fewer steps, a body, and the log-probabilities of units and blank at each of them.

    Args:
        front: see `Subsample`.
        body: reads what the front gives; an Encoder makes a model that cannot stream.
        units: V.
        dropout: of the body's outputs.
        masking: what is hidden of the input in training; see `frames.Masking`.

    Example:
        >>> model = Unaligned(Subsample(40, 128), cells.LSTM(128, 128), units=29)
        >>> logp_BMV, state = model(x_BTI)
        >>> more, state = model(next_BTI, state)
    """

    def __init__(
        self,
        front: Subsample,
        body: Recurrence | Encoder,
        units: int,
        dropout: float = 0.0,
        masking: Recurrence | None = None,
    ) -> None:
        super().__init__()
        self.front, self.body, self.dropout, self.masking = front, body, dropout, masking
        self.readout = nn.Linear(body.output_size, units)

    def steps(self, inputs: int) -> int:
        """How many steps so many inputs become."""
        return inputs // self.front.stride

    def loss(self, batch: PairBatch) -> Tensor:
        """-log p(units), over the number of units and ends. A row whose units do not fit into its steps counts as 0."""
        logp_BMV, made_B = self._outputs(batch.source, batch.source_lengths)
        lengths = batch.lengths - 1  # without the end, which is the blank
        # In float32: the sums over paths lose too much in half precision.
        total = F.ctc_loss(
            logp_BMV.float().transpose(0, 1),
            batch.target[:, :-1] if batch.target.shape[1] > 1 else batch.target,
            made_B.cpu(),
            lengths.cpu(),
            blank=BLANK,
            reduction="sum",
            zero_infinity=True,
        )
        return total / batch.losses

    def init_state(self, batch_size: int, context: State | None = None) -> UnalignedState:
        if isinstance(self.body, Encoder):
            raise NotCausalError(
                "this model needs the future (it is bidirectional), so it cannot stream",
                hint="train one with model.bidirectional = false",
            )
        return UnalignedState(self.front.init_state(batch_size), self.body.init_state(batch_size, context))

    def forward(
        self, x_BTI: Tensor, state: UnalignedState | None = None, *, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Log-probabilities (B, M, V), 0 behind the last step of a row, and the state after it."""
        if isinstance(self.body, Encoder):
            return self._outputs(x_BTI, lengths)[0], ()
        state = self.init_state(len(x_BTI)) if state is None else state
        x_BMH, made_B, front = self.front(x_BTI, state.front, lengths)
        y_BMH, body = self.body(x_BMH, state.body, lengths=made_B)
        return self._predict(y_BMH, made_B), UnalignedState(front, body)

    def _outputs(self, x_BTI: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.masking is not None:
            x_BTI, _ = self.masking(x_BTI, lengths=lengths)
        x_BMH, made_B, _ = self.front(x_BTI, None, lengths)
        return self._predict(self.body(x_BMH, lengths=made_B)[0], made_B), made_B

    def _predict(self, y_BMH: Tensor, made_B: Tensor) -> Tensor:
        logp_BMV = self.readout(dropout(y_BMH, self.dropout, self.training)).log_softmax(-1)
        real_BM = torch.arange(y_BMH.shape[1], device=y_BMH.device) < made_B[:, None]
        return ref.hide_padding(logp_BMV, real_BM)
