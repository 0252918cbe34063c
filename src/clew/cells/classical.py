"""What Elman, LSTM and GRU share: parameters in torch's layout, their initialisation, and the options.

initial            state before the first step: "zero", "random" (drawn once, a buffer) or "learned"
recurrent_init     W_hh: "orthogonal" (Saxe et al. 2014), "identity" (Le et al. 2015) or "uniform" (torch's)
layer_norm         on W_ih x, W_hh h and, in an LSTM, c before it is read (Ba et al. 2016)
recurrent_dropout  one mask per sequence on what the gates see of h (Gal & Ghahramani 2016); the mask is state
zoneout            probability that a unit keeps its old value (Krueger et al. 2017)
heads              units see those of their own head only: W_hh is block-diagonal, kept as its blocks (heads, G D, D) of
                   D units; 0 for as many as leave each at least 64 (as in Beck et al. 2024, arXiv:2405.04517)
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from clew import tree
from clew.cells.base import Recurrence
from clew.cells.heads import heads_of
from clew.errors import ConfigError, ShapeError, did_you_mean
from clew.ops import Norm, Weights, Zoneout
from clew.ops import definition as ref
from clew.tree import State

Initial = Literal["zero", "random", "learned"]
RecurrentInit = Literal["orthogonal", "identity", "uniform"]


class Classical(Recurrence):
    """Parameters and options of a gated or plain recurrence; a subclass adds the state and the arithmetic."""

    gates: ClassVar[int]
    state_type: ClassVar[type]
    keeps: ClassVar[int | None] = None  # the gate whose bias makes the cell remember

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool,
        initial: Initial,
        recurrent_init: RecurrentInit,
        layer_norm: bool,
        recurrent_dropout: float,
        zoneout: float,
        zoneout_cell: float = 0.0,
        forget_bias: float = 0.0,
        projection: int = 0,
        heads: int = 1,
        starts: int = 1,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.heads = heads_of(type(self).__name__, hidden_size, heads)
        if projection and self.heads > 1:
            raise ConfigError(
                f"{type(self).__name__}: heads see only their own units, which a projection would mix",
                hint="leave one of the two out",
            )
        self.bias = bias
        self.initial = choice("initial", initial, ("zero", "random", "learned"))
        self.recurrent_init = choice("recurrent_init", recurrent_init, ("orthogonal", "identity", "uniform"))
        self.layer_norm, self.projection, self.forget_bias = layer_norm, projection, forget_bias
        self.recurrent_dropout = _probability("recurrent_dropout", recurrent_dropout)
        self.zoneout, self.zoneout_cell = _probability("zoneout", zoneout), _probability("zoneout_cell", zoneout_cell)
        G, H, P = self.gates * hidden_size, hidden_size, projection or hidden_size
        self.weight_ih = nn.Parameter(torch.empty(G, input_size))
        D = hidden_size // self.heads
        self.weight_hh = nn.Parameter(
            torch.empty(G, P) if self.heads == 1 else torch.empty(self.heads, self.gates * D, D)
        )
        self.bias_ih = nn.Parameter(torch.empty(G)) if bias else None
        self.bias_hh = nn.Parameter(torch.empty(G)) if bias else None
        self.weight_hr = nn.Parameter(torch.empty(P, H)) if projection else None
        self.norm_ih = nn.Parameter(torch.empty(G)) if layer_norm else None
        self.norm_hh = nn.Parameter(torch.empty(G)) if layer_norm else None
        self.norm_c = nn.Parameter(torch.empty(H)) if layer_norm and starts == 2 else None
        # One row per leaf of the state that starts somewhere: h (P wide) and, in an LSTM, c (H wide).
        for name, width in list(zip(("h_0", "c_0"), (P, H), strict=True))[:starts]:
            start = torch.zeros(width)
            if initial == "learned":
                self.register_parameter(name, nn.Parameter(start))
            else:
                self.register_buffer(name, start, persistent=initial == "random")
        self.reset_parameters()

    @property
    def output_size(self) -> int:
        return self.projection or self.hidden_size

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew: Glorot for W_ih, `recurrent_init` for W_hh gate by gate, biases 0 but for the
        forget gate, gains 1."""
        H, D = self.hidden_size, self.hidden_size // self.heads
        for gate in range(self.gates):
            nn.init.xavier_uniform_(self.weight_ih[gate * H : (gate + 1) * H])
            for head in self.weight_hh if self.heads > 1 else self.weight_hh[None]:
                block = head[gate * D : (gate + 1) * D]
                if self.recurrent_init == "uniform":
                    nn.init.uniform_(block, -(D**-0.5), D**-0.5)
                else:
                    (nn.init.orthogonal_ if self.recurrent_init == "orthogonal" else nn.init.eye_)(block)
        for gain in (self.norm_ih, self.norm_hh, self.norm_c):
            if gain is not None:
                nn.init.ones_(gain)
        if self.weight_hr is not None:
            nn.init.xavier_uniform_(self.weight_hr)
        if self.bias_ih is not None and self.bias_hh is not None:
            nn.init.zeros_(self.bias_ih)
            nn.init.zeros_(self.bias_hh)
            if self.keeps is not None:
                self.bias_ih[self.keeps * H : (self.keeps + 1) * H] = self.forget_bias
        for name in ("h_0", "c_0"):
            if hasattr(self, name) and self.initial != "zero":
                nn.init.normal_(getattr(self, name), std=0.1)

    def begin(
        self, x_BTI: Tensor, state: State | None, context: State | None, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[State, State]:
        if state is not None and not isinstance(state, self.state_type):  # another's c would pass for a mask
            name, wanted = type(self).__name__, self.state_type.__name__
            raise ShapeError(f"{name}: the state must be a {wanted}, got {tree.describe(state)}")
        if state is not None and state.h.shape[1:] != (self.output_size,):
            raise ShapeError(f"{type(self).__name__}: h is {self.output_size} wide, got {tuple(state.h.shape)}")
        c = getattr(state, "c", None)
        if state is not None and c is not None and c.shape != (wanted := (len(state.h), self.hidden_size)):
            raise ShapeError(f"{type(self).__name__}: c must be {wanted}, got {tuple(c.shape)}")
        return super().begin(x_BTI, state, context, lengths, reset)

    @abstractmethod
    def scan(self, x_BTI: Tensor, state: State, **how: Any) -> tuple[Tensor, State]:
        """The cell's op over whole sequences, with the op's own options."""

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        state, initial = self.begin(x_BTI, state, context, lengths, reset)
        return self.scan(x_BTI, state, initial=initial, lengths=lengths, reset=reset)

    def read_backwards(
        self,
        x_BTI: Tensor,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        state, initial = self.begin(x_BTI, None, context, lengths, reset)
        return self.scan(x_BTI, state, initial=initial, lengths=lengths, reset=reset, backwards=True)

    def gate_values(self, x_BTI: Tensor, state: State | None = None) -> dict[str, Tensor]:
        return {}

    def before_squashing(self, x_BTI: Tensor, state: State | None = None) -> Tensor:
        """All that goes into the gates, (B, T, G), but for products of gates with each other."""
        start, w = self.init_state(len(x_BTI)) if state is None else state, self.weights()
        h_BTP = torch.cat([start.h[:, None], self(x_BTI, start)[0]], 1)[:, :-1]
        return ref.input_gates(x_BTI, w) + ref.hidden_gates(h_BTP, w)

    def weights(self) -> Weights:
        """The parameters as the ops take them."""
        norm = None
        if self.norm_ih is not None and self.norm_hh is not None:
            norm = Norm(self.norm_ih, self.norm_hh, self.norm_c)
        return Weights(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, self.weight_hr, norm)

    def zone(self) -> Zoneout:
        return Zoneout(self.zoneout, self.zoneout_cell, self.training)

    def start(self, name: str, batch_size: int) -> Tensor:
        """The initial value of one leaf, (B, its width)."""
        return getattr(self, name).expand(batch_size, -1)

    def mask(self, batch_size: int) -> State:
        """The sequence's dropout mask on h, (B, P): ones outside training, `()` without the option."""
        if self.recurrent_dropout == 0.0:
            return ()
        keep = 1.0 - self.recurrent_dropout
        ones = self.weight_hh.new_ones(batch_size, self.output_size)
        return torch.bernoulli(ones * keep) / keep if self.training else ones

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + (f", projection={self.projection}" if self.projection else "")


def choice(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ConfigError(f"unknown {name} '{value}'", hint=did_you_mean(value, known))
    return value


def _probability(name: str, value: float) -> float:
    if not 0.0 <= value < 1.0:
        raise ConfigError(f"{name} must be at least 0 and under 1, got {value}")
    return value
