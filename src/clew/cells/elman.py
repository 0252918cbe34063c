"""Simple recurrent network (Elman 1990, "Finding structure in time", Cognitive Science 14).

h[t] = f(W_ih x[t] + b_ih + W_hh h[t-1] + b_hh)      f = tanh or ReLU
y[t] = h[t]                                          state: h_BH, mask_BH
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from torch import Tensor

from clew import ops
from clew.cells.classical import Classical, Initial, RecurrentInit, choice
from clew.ops import definition as ref
from clew.tree import State


class ElmanState(NamedTuple):
    h: Tensor  # (B, H)
    mask: State = ()  # (B, H) when the cell has recurrent dropout


class Elman(Classical):
    """Elman's network, with the options of `cells.classical`.

    Example:
        >>> cell = Elman(8, 32, nonlinearity="relu", recurrent_init="identity")
        >>> y, state = cell(torch.randn(4, 100, 8))
    """

    cite = "Elman 1990, Cognitive Science 14:179-211"
    gates = 1
    state_type = ElmanState

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bias: bool = True,
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
            initial=initial,
            recurrent_init=recurrent_init,
            layer_norm=layer_norm,
            recurrent_dropout=recurrent_dropout,
            zoneout=zoneout,
            heads=heads,
        )
        self.nonlinearity = choice("nonlinearity", nonlinearity, ("tanh", "relu"))

    def init_state(self, batch_size: int, context: State | None = None) -> ElmanState:
        return ElmanState(self.start("h_0", batch_size), self.mask(batch_size))

    def step(self, x_BI: Tensor, state: ElmanState, context: State | None = None) -> tuple[Tensor, ElmanState]:
        w, h = self.weights(), state.h
        h = ref.elman_step(ref.input_gates(x_BI, w), h, ref.seen(h, state.mask), w, self.nonlinearity, self.zone())
        return h, ElmanState(h, state.mask)

    def scan(self, x_BTI: Tensor, state: State, **how: Any) -> tuple[Tensor, ElmanState]:
        y_BTH, after = ops.elman_scan(x_BTI, state, self.weights(), self.nonlinearity, zoneout=self.zone(), **how)
        return y_BTH, ElmanState(*after)
