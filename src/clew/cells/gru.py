"""Gated recurrent unit (Cho et al. 2014, arXiv:1406.1078, eq. 5-8, the reset gate after the product, as torch has it).

r[t] = sigmoid(W_ir x[t] + b_ir + W_hr h[t-1] + b_hr)
u[t] = sigmoid(W_iu x[t] + b_iu + W_hu h[t-1] + b_hu)              B batch, H hidden
n[t] = tanh(W_in x[t] + b_in + r[t] (W_hn h[t-1] + b_hn))
h[t] = (1 - u[t]) n[t] + u[t] h[t-1]                               state: h_BH, mask_BH
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from clew import ops
from clew.cells.classical import Classical, Initial, RecurrentInit
from clew.ops import definition as ref
from clew.tree import State


class GRUState(NamedTuple):
    h: Tensor  # (B, H)
    mask: State = ()  # (B, H) when the cell has recurrent dropout


class GRU(Classical):
    """GRU, with the options of `cells.classical`; `forget_bias` is the initial bias of the update gate, which keeps.

    Example:
        >>> cell = GRU(8, 32)
        >>> y, state = cell(torch.randn(4, 100, 8))
        >>> y_next, state = cell.step(torch.randn(4, 8), state)
    """

    cite = "Cho et al. 2014, arXiv:1406.1078"
    gates = 3
    state_type = GRUState
    keeps = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        forget_bias: float = 0.0,
        initial: Initial = "zero",
        recurrent_init: RecurrentInit = "orthogonal",
        layer_norm: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        heads: int = 1,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            bias=bias,
            forget_bias=forget_bias,
            initial=initial,
            recurrent_init=recurrent_init,
            layer_norm=layer_norm,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            heads=heads,
        )

    def init_state(self, batch_size: int, context: State | None = None) -> GRUState:
        return GRUState(self.start("h_0", batch_size), self.mask(batch_size))

    def step(self, x_BI: Tensor, state: GRUState, context: State | None = None) -> tuple[Tensor, GRUState]:
        w, h = self.weights(), state.h
        h = ref.gru_step(ref.input_gates(x_BI, w), h, ref.seen(h, state.mask), w, self.zone())
        return h, GRUState(h, state.mask)

    def gate_values(self, x_BTI: Tensor, state: State | None = None) -> dict[str, Tensor]:
        r, u, _ = self.before_squashing(x_BTI, state).chunk(3, -1)
        z = self.zoneout  # outside training that share of h stays as it was
        return {"reset": torch.sigmoid(r), "keep": z + (1 - z) * torch.sigmoid(u)}

    def scan(self, x_BTI: Tensor, state: State, **how: Any) -> tuple[Tensor, GRUState]:
        y_BTH, after = ops.gru_scan(x_BTI, state, self.weights(), zoneout=self.zone(), **how)
        return y_BTH, GRUState(*after)
