"""Mamba-2: a selective state space whose heads each forget at one rate (Dao & Gu 2024, arXiv:2405.21060, section 7).

z, u, dt = W_z x, W_u x, W_dt x                                  B batch, T time, H heads, V units of a head
v, k, q = silu(sum over j of w[j] u[t - P + j] + b)              K numbers of state a unit (k, q: the paper's B, C,
dt[t] = clamp(softplus(dt[t] + b_dt))                            which the heads of a group share), P = conv - 1
S[t] = exp(-dt[t] rate) S[t-1] + k[t] (dt[t] v[t])'              per head; rate = exp(log_rate) a number a head
o[t] = S[t]' q[t] + skip v[t]
y[t] = W_o rms(o[t] * silu(z[t]))                                the norm is over each group's units
                                                                 state: past_BPD (D: v, k, q of all), S_BHKV
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew import ops
from clew.cells.base import Scanned
from clew.cells.heads import HeadNorm, heads_of, split
from clew.cells.mamba import at_least_one, step_bias
from clew.errors import ConfigError, ShapeError
from clew.tree import State


class Mamba2State(NamedTuple):
    past: Tensor  # (B, P, D) inputs of the convolution, the oldest first
    S: Tensor  # (B, H, K, V)


class Mamba2(Scanned):
    """The Mamba-2 block without norm and residual: a matrix per head that forgets at a rate read off the input.

    Args:
        state: numbers of state a unit.
        expand: units of all heads, as a multiple of hidden_size.
        heads: how many; 0 for as many as leave each at least 64 units.
        groups: of heads that share what they write and read by; each is normalised by itself.
        conv: taps of the convolution over time; 1 for the present input alone.
        dt_min: shortest initial length of a step; the lengths are drawn evenly on a log scale.
        dt_max: longest initial length of a step.
        dt_limit: the least and the largest that a step's length may become.
        conv_bias: the convolution has a bias.
        bias: the first and the last projection have biases.

    Example:
        >>> y, state = Mamba2(8, 64)(torch.randn(4, 100, 8))
    """

    cite = "Dao & Gu 2024, arXiv:2405.21060"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        state: int = 128,
        expand: float = 2,
        heads: int = 0,
        groups: int = 1,
        conv: int = 4,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_limit: tuple[float, float] = (0.0, math.inf),
        conv_bias: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size)
        inner = round(expand * hidden_size)
        at_least_one("Mamba2", state=state, conv=conv, groups=groups, **{"expand * hidden_size": inner})
        self.heads, self.groups, self.state_size = heads_of("Mamba2", inner, heads), groups, state
        if self.heads % groups:
            raise ShapeError(f"Mamba2: {self.heads} heads cannot be shared equally by {groups} groups")
        self.dt_limit = (low, high) = tuple(dt_limit)
        if not 0 <= low < high:
            raise ConfigError(f"Mamba2: dt_limit must be two numbers of at least 0 in rising order, got {dt_limit}")
        self.sizes = inner, groups * state, groups * state
        width = sum(self.sizes)
        self.to_zudt = nn.Linear(input_size, inner + width + self.heads, bias)
        self.conv = nn.Conv1d(width, width, conv, groups=width, bias=conv_bias)  # the weights; `ops.short_conv` runs it
        self.dt_bias = nn.Parameter(step_bias("Mamba2", self.heads, dt_min, dt_max))
        self.log_rate = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.norm = HeadNorm(groups, inner // groups)
        self.out = nn.Linear(inner, hidden_size, bias)

    def init_state(self, batch_size: int, context: State | None = None) -> Mamba2State:
        zeros, inner, taps = self.skip.new_zeros, self.sizes[0], self.conv.kernel_size[0]
        return Mamba2State(
            zeros(batch_size, taps - 1, sum(self.sizes)),
            zeros(batch_size, self.heads, self.state_size, inner // self.heads),
        )

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Mamba2State]:
        z, u, dt = self.to_zudt(x_BTI).split([self.sizes[0], sum(self.sizes), self.heads], -1)
        c, past = ops.short_conv(
            u, state.past, self.conv.weight[:, 0], self.conv.bias, silu=True, lengths=lengths, reset=reset
        )
        v, k, q = c.split(self.sizes, -1)
        v, k, q = split(v, self.heads), split(k, self.groups), split(q, self.groups)
        dt = F.softplus(dt + self.dt_bias).clamp(*self.dt_limit)[..., None]
        w = torch.exp(-dt * self.log_rate.exp()[:, None])
        o, S = ops.matrix_scan(q, k, dt * v, w, state.S, initial=initial.S, lengths=lengths, reset=reset)
        o = (o + self.skip[:, None] * v).flatten(-2) * F.silu(z)
        return self.out(self.norm(split(o, self.groups))), Mamba2State(past, S)
