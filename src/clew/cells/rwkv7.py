"""RWKV-7, "Goose" (Peng et al. 2025, arXiv:2503.14456, section 4.1); the time mix of its first layer.

x_j = x[t] + mu_j (x[t-1] - x[t])                         j = r, w, k, v, a, g      B batch, T time, I input, H heads
r, k, v = W_r x_r, W_k x_k, W_v x_v                       per head                  K = V units of a head
w = exp(-e^(-1/2) sigmoid(b_w + tanh(x_w A_w) B_w))       the decay of each key
a = sigmoid(b_a + x_a A_a B_a)                            the rate of learning in context
g = sigmoid(x_g A_g) B_g                                  the output gate
u = xi k / |xi k|                                         the key that is removed, of length 1 in each head
k~ = k (1 + alpha (a - 1))                                the key that is written
S[t] = diag(w[t]) S[t-1] - (a[t] u[t]) (u[t]' S[t-1]) + k~[t] v[t]'
o[t] = S[t]' r[t];   p[t] = norm(o[t]) + (r[t]' (rho k~[t])) v[t]
y[t] = W_o (g[t] p[t])                                    state: S_BHKV, past_B1I (the input before)

Later layers of the paper's models mix their values with those of the first; that form is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clew import ops
from clew.cells.base import Scanned
from clew.cells.heads import HeadNorm, heads_of, split
from clew.errors import ShapeError
from clew.ops.window import window
from clew.tree import State

NORM_EPS = 64e-5  # of the norm of heads, whatever their size
EPS = 1e-12  # under the root of |xi k|, so that an input of 0 has a derivative


class LowRank(nn.Module):
    """A map of low rank, up(f(down(x))); f is the identity where none is given."""

    def __init__(
        self,
        input_size: int,
        rank: int,
        output_size: int,
        f: Callable[[Tensor], Tensor] | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.down = nn.Linear(input_size, rank, bias=False)
        self.up = nn.Linear(rank, output_size, bias)
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        low = self.down(x)
        return self.up(low if self.f is None else self.f(low))


class RWKV7State(NamedTuple):
    S: Tensor  # (B, H, K, V)
    past: Tensor  # (B, 1, I)


class RWKV7(Scanned):
    """A matrix per head, rewritten by a generalised delta rule: each key forgets at a rate of its own, and one
    direction is removed and another written at each step.

    Args:
        heads: how many; 0 for as many as leave each at least 64 units.
        rank: of the maps to w, a and g; 0 for that of the paper's models, at least 32.

    Example:
        >>> y, state = RWKV7(8, 64, heads=2)(torch.randn(4, 100, 8))
    """

    cite = "Peng et al. 2025, arXiv:2503.14456"

    def __init__(self, input_size: int, hidden_size: int, *, heads: int = 0, rank: int = 0) -> None:
        super().__init__(input_size, hidden_size)
        if rank < 0:
            raise ShapeError(f"RWKV7: rank must be at least 0 (0 for that of the paper's models), got {rank}")
        self.heads = heads_of("RWKV7", hidden_size, heads)
        self.head_size = hidden_size // self.heads
        self.mix = nn.Parameter(torch.empty(6, input_size))  # r, w, k, v, a, g
        self.to_r = nn.Linear(input_size, hidden_size, bias=False)
        self.to_k = nn.Linear(input_size, hidden_size, bias=False)
        self.to_v = nn.Linear(input_size, hidden_size, bias=False)
        small, large = (rank or max(32, round(r * hidden_size**0.5 / 32) * 32) for r in (2.5, 5.0))
        self.to_w = LowRank(input_size, small, hidden_size, torch.tanh)
        self.to_a = LowRank(input_size, small, hidden_size)
        self.to_g = LowRank(input_size, large, hidden_size, torch.sigmoid, bias=False)
        self.removed = nn.Parameter(torch.empty(hidden_size))  # xi
        self.rate = nn.Parameter(torch.empty(hidden_size))  # alpha
        self.bonus = nn.Parameter(torch.empty(self.heads, self.head_size))  # rho
        self.norm = HeadNorm(self.heads, self.head_size, centred=True, bias=True, eps=NORM_EPS)
        self.out = nn.Linear(hidden_size, hidden_size, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """As the authors begin, but for W_o, which they set to 0 since it ends in a residual: y would be 0."""
        for linear, bound in ((self.to_r, 0.5), (self.to_k, 0.05), (self.to_v, 0.5), (self.out, 0.5)):
            nn.init.uniform_(linear.weight, -1, 1).mul_(bound * linear.in_features**-0.5)
        place = torch.arange(self.input_size) / self.input_size
        for mix, power in zip(self.mix, (0.2, 0.9, 0.7, 0.7, 0.9, 0.2), strict=True):
            mix.copy_(1 - place**power)
        for low in (self.to_w, self.to_a, self.to_g):
            nn.init.zeros_(low.down.weight)
            nn.init.orthogonal_(low.up.weight, 0.1 * max(1.0, low.up.in_features / self.hidden_size) ** 0.5)
        unit = torch.linspace(0, 1, self.hidden_size)
        zigzag = torch.linspace(-1, 1, self.head_size).repeat(self.heads)
        zigzag = zigzag * zigzag.abs()
        self.to_w.up.bias.copy_(6 * unit - 5.5 + 2.5 * zigzag)
        self.to_a.up.bias.copy_(0.4 * (unit - 0.5) - 0.19 + 0.3 * zigzag)
        self.removed.copy_(0.71 - 0.1 * (unit - 0.5))
        nn.init.constant_(self.rate, 1.02)
        nn.init.constant_(self.bonus, -0.04)

    def init_state(self, batch_size: int, context: State | None = None) -> RWKV7State:
        new, D = self.mix.new_zeros, self.head_size
        return RWKV7State(new(batch_size, self.heads, D, D), new(batch_size, 1, self.input_size))

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        (before, _), past = window(x_BTI, state.past, lengths, reset)
        x_r, x_w, x_k, x_v, x_a, x_g = (torch.addcmul(x_BTI, before - x_BTI, mix) for mix in self.mix)
        k, a = self.to_k(x_k), torch.sigmoid(self.to_a(x_a))
        w = torch.exp(-math.exp(-0.5) * torch.sigmoid(self.to_w(x_w)))
        u = split(k * self.removed, self.heads)
        u = u * torch.rsqrt(u.square().sum(-1, keepdim=True) + EPS)
        k = k * (1 + self.rate * (a - 1))
        r, w, k, v, a = (split(part, self.heads) for part in (self.to_r(x_r), w, k, self.to_v(x_v), a))
        o, S = ops.matrix_scan(r, k, v, w, state.S, initial=initial.S, erase=(-a * u, u), lengths=lengths, reset=reset)
        p = self.norm(o) + ((r * self.bonus * k).sum(-1, keepdim=True) * v).flatten(-2)
        return self.out(p * self.to_g(x_g)), RWKV7State(S, past)
