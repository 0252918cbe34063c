"""Retention (Sun et al. 2023, arXiv:2307.08621, eq. 6 and 8; the turning rates are those of the official code).

q, k, v = W_q x, W_k x, W_v x            per head                        B batch, T time, H heads
turn(q)[2j:2j+2] is q[2j:2j+2] turned by the angle p[t] theta[j]         K keys, V values of a head
theta[j] = 10000^(-j / (K/2 - 1)),  j = 0 ... K/2 - 1                    p[t] the steps since the beginning
S[t] = gamma S[t-1] + turn(k[t]) v[t]' / sqrt(K)                         gamma = 1 - 2^(-5 - h) of head h = 0, 1, ...
o[t] = S[t]' turn(q[t])
y[t] = W_o (norm(o[t]) * swish(W_g x[t]))                                state: S_BHKV, position_B

Angles are reckoned in float64 whatever the cell's dtype: they are off by less than 1e-6 in a billion steps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew import ops
from clew.cells.base import Scanned
from clew.cells.heads import HeadNorm, each_of, heads_of, split, turn
from clew.errors import ShapeError
from clew.tree import State

GAIN = 2**-2.5  # of the first weights, as in the official code


class RetNetState(NamedTuple):
    S: Tensor  # (B, H, K, V)
    position: Tensor  # (B,) int64, steps since the beginning


class RetNet(Scanned):
    """Multi-scale retention: a matrix per head that forgets at a fixed rate, each head at half the pace of the last.

    Args:
        heads: how many; 0 for as many as leave each at least 64 units.
        expand: width of all values, as a multiple of hidden_size; that of the keys is hidden_size.
        centred: each head is normalised by mean and variance, as in the paper; else by the root mean square, as in
            the official code.

    Raises:
        ShapeError: the keys of a head do not come in pairs, or the heads do not share the values equally.

    Example:
        >>> y, state = RetNet(8, 64, heads=2)(torch.randn(4, 100, 8))
    """

    cite = "Sun et al. 2023, arXiv:2307.08621"

    def __init__(
        self, input_size: int, hidden_size: int, *, heads: int = 0, expand: float = 2.0, centred: bool = True
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.heads, width = heads_of("RetNet", hidden_size, heads), round(hidden_size * expand)
        self.key_size, self.value_size = hidden_size // self.heads, each_of("RetNet", "values", width, self.heads)
        if self.key_size % 2:
            hint = "choose hidden_size and heads so that hidden_size / heads is even"
            raise ShapeError(f"RetNet: a head's {self.key_size} keys turn in pairs, so their number is even", hint=hint)
        self.to_q = nn.Linear(input_size, hidden_size, bias=False)
        self.to_k = nn.Linear(input_size, hidden_size, bias=False)
        self.to_v = nn.Linear(input_size, width, bias=False)
        self.to_gate = nn.Linear(input_size, width, bias=False)
        self.norm = HeadNorm(self.heads, self.value_size, centred=centred, gain="none", eps=1e-6)
        self.out = nn.Linear(width, hidden_size, bias=False)
        for linear in (self.to_q, self.to_k, self.to_v, self.to_gate):
            nn.init.xavier_uniform_(linear.weight, GAIN)
        nn.init.xavier_uniform_(self.out.weight)

    def init_state(self, batch_size: int, context: State | None = None) -> RetNetState:
        weight = self.out.weight
        return RetNetState(
            weight.new_zeros(batch_size, self.heads, self.key_size, self.value_size),
            weight.new_zeros(batch_size, dtype=torch.int64),
        )

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, RetNetState]:
        q, k, v = (split(to(x_BTI), self.heads) for to in (self.to_q, self.to_k, self.to_v))
        position_BT, position = positions(x_BTI, state.position, initial.position, lengths, reset)
        exponent_J = torch.linspace(0, -4, self.key_size // 2, dtype=torch.float64, device=q.device)
        angle_BT1J = position_BT[..., None, None] * 10**exponent_J
        cos, sin = angle_BT1J.cos().to(q.dtype), angle_BT1J.sin().to(q.dtype)
        gamma_H = 1 - torch.exp2(-5 - torch.arange(self.heads, dtype=torch.float64, device=q.device))
        w = gamma_H.to(q.dtype)[:, None].expand(*q.shape[:-1], 1)
        q, k = turn(q, cos, sin), turn(k * self.key_size**-0.5, cos, sin)
        o, S = ops.matrix_scan(q, k, v, w, state.S, initial=initial.S, lengths=lengths, reset=reset)
        return self.out(self.norm(o) * F.silu(self.to_gate(x_BTI))), RetNetState(S, position)


def positions(
    x_BTI: Tensor, before_B: Tensor, initial_B: Tensor, lengths: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The position (B, T) of every step, counted anew from each reset, and that of the step after the last real one."""
    T = x_BTI.shape[1]
    t_T = torch.arange(T, device=x_BTI.device)
    at_BT = before_B[:, None] + t_T
    if reset is not None:
        begin_BT = torch.where(reset, t_T, -1).cummax(1).values
        at_BT = torch.where(begin_BT < 0, at_BT, initial_B[:, None] + t_T - begin_BT)
    next_BT1 = torch.cat([before_B[:, None], at_BT + 1], 1)
    if lengths is None:
        return at_BT, next_BT1[:, T]
    return at_BT, next_BT1.gather(1, lengths.to(x_BTI.device, torch.int64)[:, None])[:, 0]
