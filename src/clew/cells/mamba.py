"""Mamba: a selective state space (Gu & Dao 2023, arXiv:2312.00752, algorithm 2, sections 3.4 and 3.6).

u, z = W_u x, W_z x                                              B batch, T time, D channels = expand x hidden
c[t] = silu(sum over j of w[j] u[t - P + j] + b)                 P inputs of the past = conv - 1
r, b, q = W_r c, W_b c, W_q c                                    N numbers of state a channel (b, q: the paper's B, C)
dt[t] = softplus(W_dt r[t] + b_dt)                               a step's length, through a low rank
h[t] = exp(dt[t] A) h[t-1] + dt[t] c[t] b[t]',  A = -exp(log_rate)
y[t] = W_o ((h[t] q[t] + skip * c[t]) * silu(z[t]))              state: past_BPD, h_BDN
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew import ops
from clew.cells.base import Scanned
from clew.errors import ConfigError, ShapeError
from clew.tree import State


class MambaState(NamedTuple):
    past: Tensor  # (B, P, D) inputs of the convolution, the oldest first
    h: Tensor  # (B, D, N)


class Mamba(Scanned):
    """The Mamba block without norm and residual: each channel forgets and takes in at a pace read off the input.

    Args:
        state: numbers of state a channel.
        expand: channels, as a multiple of hidden_size.
        conv: taps of the convolution over time; 1 for the present input alone.
        rank: of the map to the steps' lengths; 0 for a sixteenth of hidden_size.
        dt_min: shortest initial length of a step; the lengths are drawn evenly on a log scale.
        dt_max: longest initial length of a step.
        conv_bias: the convolution has a bias.
        bias: the first and the last projection have biases.

    Example:
        >>> y, state = Mamba(8, 64)(torch.randn(4, 100, 8))
    """

    cite = "Gu & Dao 2023, arXiv:2312.00752"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        state: int = 16,
        expand: float = 2,
        conv: int = 4,
        rank: int = 0,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        conv_bias: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size)
        rank, inner = rank or math.ceil(hidden_size / 16), round(expand * hidden_size)
        at_least_one("Mamba", state=state, conv=conv, rank=rank, **{"expand * hidden_size": inner})
        self.state_size, self.rank = state, rank
        self.to_uz = nn.Linear(input_size, 2 * inner, bias)
        self.conv = nn.Conv1d(inner, inner, conv, groups=inner, bias=conv_bias)  # the weights; `ops.short_conv` runs it
        self.to_rbq = nn.Linear(inner, rank + 2 * state, bias=False)
        self.to_dt = nn.Linear(rank, inner)
        nn.init.uniform_(self.to_dt.weight, -(rank**-0.5), rank**-0.5)
        self.to_dt.bias = nn.Parameter(step_bias("Mamba", inner, dt_min, dt_max))
        self.log_rate = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.out = nn.Linear(inner, hidden_size, bias)

    def init_state(self, batch_size: int, context: State | None = None) -> MambaState:
        zeros, (inner, state) = self.skip.new_zeros, self.log_rate.shape
        return MambaState(zeros(batch_size, self.conv.kernel_size[0] - 1, inner), zeros(batch_size, inner, state))

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, MambaState]:
        u, z = self.to_uz(x_BTI).chunk(2, -1)
        c, past = ops.short_conv(
            u, state.past, self.conv.weight[:, 0], self.conv.bias, silu=True, lengths=lengths, reset=reset
        )
        r, b, q = self.to_rbq(c).split([self.rank, self.state_size, self.state_size], -1)
        dt, A = F.softplus(self.to_dt(r)), -self.log_rate.exp()
        o, h = ops.selective_scan(c, dt, A, b, q, state.h, initial=initial.h, lengths=lengths, reset=reset)
        return self.out((o + self.skip * c) * F.silu(z)), MambaState(past, h)


def step_bias(cell: str, width: int, dt_min: float, dt_max: float) -> Tensor:
    """Biases (width,) whose softplus is spread evenly between dt_min and dt_max, on a log scale."""
    if not 0 < dt_min <= dt_max < math.inf:
        raise ConfigError(f"{cell}: dt_min and dt_max must be above 0 and in this order, got {dt_min} and {dt_max}")
    dt = torch.empty(width).uniform_(math.log(dt_min), math.log(dt_max)).exp()
    return dt + torch.log(-torch.expm1(-dt))  # the inverse of softplus, exact for small dt


def at_least_one(cell: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ShapeError(f"{cell}: {name} must be at least 1, got {size}")
