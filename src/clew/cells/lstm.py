"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000).

i[t] = sigmoid(W_ii x[t] + b_ii + W_hi h[t-1] + b_hi)              B batch, H hidden, P projection (H without)
f[t] = sigmoid(W_if x[t] + b_if + W_hf h[t-1] + b_hf)
g[t] = tanh(W_ig x[t] + b_ig + W_hg h[t-1] + b_hg)
o[t] = sigmoid(W_io x[t] + b_io + W_ho h[t-1] + b_ho)
c[t] = f[t] c[t-1] + i[t] g[t]
h[t] = W_hr (o[t] tanh(c[t]))                                      state: h_BP, c_BH, mask_BP
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from clew import ops
from clew.cells.classical import Classical, Initial, RecurrentInit
from clew.errors import ShapeError
from clew.ops import definition as ref
from clew.tree import State


class LSTMState(NamedTuple):
    h: Tensor  # (B, P)
    c: Tensor  # (B, H)
    mask: State = ()  # (B, P) when the cell has recurrent dropout


class LSTM(Classical):
    """LSTM, with the options of `cells.classical`.

    Args:
        forget_bias: initial bias of the forget gate; 1 lets it remember from the start (Jozefowicz et al. 2015).
        projection: width of h and y (Sak et al. 2014, arXiv:1402.1128); 0 for none.
        zoneout_cell: zoneout of c; `zoneout` is that of h.

    Example:
        >>> cell = LSTM(8, 32)
        >>> y, state = cell(torch.randn(4, 100, 8))
        >>> y_next, state = cell.step(torch.randn(4, 8), state)
    """

    cite = "Hochreiter & Schmidhuber 1997, Neural Computation 9(8)"
    gates = 4
    state_type = LSTMState
    keeps = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        forget_bias: float = 1.0,
        projection: int = 0,
        initial: Initial = "zero",
        recurrent_init: RecurrentInit = "orthogonal",
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        zoneout_cell: float = 0.0,
        heads: int = 1,
    ) -> None:
        if not 0 <= projection < hidden_size:
            raise ShapeError(f"LSTM: projection must be at least 0 and under hidden_size, got {projection}")
        super().__init__(
            input_size,
            hidden_size,
            bias=bias,
            forget_bias=forget_bias,
            projection=projection,
            initial=initial,
            recurrent_init=recurrent_init,
            layer_norm=layer_norm,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            zoneout_cell=zoneout_cell,
            starts=2,
            heads=heads,
        )

    def init_state(self, batch_size: int, context: State | None = None) -> LSTMState:
        return LSTMState(self.start("h_0", batch_size), self.start("c_0", batch_size), self.mask(batch_size))

    def step(self, x_BI: Tensor, state: LSTMState, context: State | None = None) -> tuple[Tensor, LSTMState]:
        w, (h, c, mask) = self.weights(), state
        h, c = ref.lstm_step(ref.input_gates(x_BI, w), h, c, ref.seen(h, mask), w, self.zone())
        return h, LSTMState(h, c, mask)

    def gate_values(self, x_BTI: Tensor, state: State | None = None) -> dict[str, Tensor]:
        i, f, _, o = self.before_squashing(x_BTI, state).chunk(4, -1)
        z = self.zoneout_cell  # outside training that share of c stays as it was
        return {"input": torch.sigmoid(i), "keep": z + (1 - z) * torch.sigmoid(f), "output": torch.sigmoid(o)}

    def scan(self, x_BTI: Tensor, state: State, **how: Any) -> tuple[Tensor, LSTMState]:
        y_BTP, after = ops.lstm_scan(x_BTI, state, self.weights(), zoneout=self.zone(), **how)
        return y_BTP, LSTMState(*after)
