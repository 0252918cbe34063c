"""sLSTM, the scalar memory of xLSTM with memory mixing (Beck et al. 2024, arXiv:2405.04517, eq. 8-18).

z[t]  = tanh(W_z x[t] + R_z h[t-1] + b_z)             R block-diagonal: each head sees itself     B batch, T time
i~[t] = W_i x[t] + R_i h[t-1] + b_i                   i = exp(i~)                                 H heads
f~[t] = W_f x[t] + R_f h[t-1] + b_f                   f = sigmoid(f~) or exp(f~)                  D units of a head
o[t]  = sigmoid(W_o x[t] + R_o h[t-1] + b_o)                                                      P = taps - 1
m[t] = max(log f[t] + m[t-1], i~[t])                  the stabiliser
c[t] = exp(log f[t] + m[t-1] - m[t]) c[t-1] + exp(i~[t] - m[t]) z[t]
n[t] = exp(log f[t] + m[t-1] - m[t]) n[t-1] + exp(i~[t] - m[t])
h[t] = o[t] c[t] / n[t];  y[t] = norm(h[t]) per head                   state: c_BHD, n_BHD, h_BHD, m_BHD, past_BPI

h does not depend on m. It begins so low that the first step forgets it altogether: then n is never under 1.
With a convolution (figure 10) i~ and f~ read swish(conv(x)) in place of x.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from clew import ops
from clew.cells.base import Scanned
from clew.cells.heads import HeadNorm, heads_of
from clew.errors import ConfigError, ShapeError
from clew.ops import definition as ref
from clew.tree import State

LOWEST = -1e4  # where m begins: exp(m) is 0 in every dtype, and float16 still holds it


class SLSTMState(NamedTuple):
    c: Tensor  # (B, H, D) cell
    n: Tensor  # (B, H, D) normaliser
    h: Tensor  # (B, H, D) what the gates see
    m: Tensor  # (B, H, D) stabiliser: c and n stand for c exp(m) and n exp(m)
    past: State = ()  # (B, P, I) the convolution's last inputs


class SLSTM(Scanned):
    """An LSTM with exponential input gates, a normaliser, and recurrent weights within heads.

    Args:
        heads: how many; 0 for as many as leave each at least 64 units.
        forget: "sigmoid" or "exp", the forget gate of eq. 13.
        conv: taps of a causal convolution before the input and forget gates; 0 for none, 4 in the paper's models.
        recurrent: initial recurrent weights: "zeros", or "uniform" within 1 / sqrt(hidden_size).
        norm: each head's output is normalised; else y is h.

    Example:
        >>> y, state = SLSTM(8, 64, heads=4)(torch.randn(4, 100, 8))
    """

    cite = "Beck et al. 2024, arXiv:2405.04517"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int = 0,
        forget: Literal["sigmoid", "exp"] = "sigmoid",
        conv: int = 0,
        recurrent: Literal["zeros", "uniform"] = "zeros",
        norm: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.heads = heads_of("SLSTM", hidden_size, heads)
        if forget not in ("sigmoid", "exp") or recurrent not in ("zeros", "uniform"):
            raise ConfigError(
                "SLSTM: forget must be 'sigmoid' or 'exp' and recurrent 'zeros' or 'uniform', "
                f"got {forget!r} and {recurrent!r}"
            )
        if conv < 0:
            raise ShapeError(f"SLSTM: conv must be at least 0 (0 for no convolution), got {conv}")
        self.head_size = D = hidden_size // self.heads
        self.forget, self.recurrent, self.taps = forget, recurrent, conv
        # Within each: by head, then by gate, then by unit.
        self.to_if = nn.Linear(input_size, 2 * hidden_size)
        self.to_zo = nn.Linear(input_size, 2 * hidden_size)
        self.weight_hh = nn.Parameter(torch.empty(self.heads, D, 4 * D))  # gates i, f, z, o
        self.conv = nn.Conv1d(input_size, input_size, conv, groups=input_size) if conv else None
        self.norm = HeadNorm(self.heads, D, centred=True) if norm else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """As the authors begin: small maps (Nguyen & Salazar 2019), forget gates spread over the units of a head."""
        bound = 0.0 if self.recurrent == "zeros" else self.hidden_size**-0.5
        nn.init.uniform_(self.weight_hh, -bound, bound)
        for linear in (self.to_if, self.to_zo):
            nn.init.normal_(linear.weight, std=(2 / (5 * self.input_size)) ** 0.5)
            nn.init.zeros_(linear.bias)
        self.to_if.bias.view(self.heads, 2, -1)[:, 1] = 5 - 12 * torch.linspace(0, 1, self.head_size) ** 0.3

    def init_state(self, batch_size: int, context: State | None = None) -> SLSTMState:
        new, shape = self.weight_hh.new_zeros, (batch_size, self.heads, self.head_size)
        past = new(batch_size, self.taps - 1, self.input_size) if self.taps else ()
        return SLSTMState(new(shape), new(shape), new(shape), torch.full_like(new(shape), LOWEST), past)

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        (*moving, past), u_BTI = state, x_BTI
        if self.conv is not None:
            u_BTI, past = ops.short_conv(
                x_BTI, past, self.conv.weight[:, 0], self.conv.bias, silu=True, lengths=lengths, reset=reset
            )
        gates = [to.unflatten(-1, (self.heads, -1)) for to in (self.to_if(u_BTI), self.to_zo(x_BTI))]
        y, (c, n, h, m) = ops.slstm_scan(
            torch.cat(gates, -1),
            tuple(moving),
            self.weight_hh,
            exponential=self.forget == "exp",
            initial=tuple(initial[:-1]),
            lengths=lengths,
            reset=reset,
        )
        return y.flatten(-2) if self.norm is None else self.norm(y), SLSTMState(c, n, h, m, past)

    def move(self, gx_BHG: Tensor, state: State) -> tuple[Tensor, State]:
        """One step of all heads, given the input's part of the gates (B, H, 4 D)."""
        return ref.slstm_step(gx_BHG, state, self.weight_hh, self.forget == "exp")
