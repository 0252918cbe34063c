"""RWKV-6, "Finch" (Peng et al. 2024, arXiv:2404.05892, section 4.2): its time mix.

d = x[t-1] - x[t]                                                                   B batch, T time, I input
l = tanh((x[t] + mu_x d) A)                                                         H heads, K = V units of a head
x_j = x[t] + (mu_j + l_j B_j) d                          j = w, k, v, r, g          R rank
r, k, v = W_r x_r, W_k x_k, W_v x_v                      per head
w = exp(-exp(b_w + tanh(x_w A_w) B_w))                   the decay of each key
o[t] = S[t-1]' r[t] + (r[t]' (u k[t])) v[t]              u: what the present key counts for
S[t] = diag(w[t]) S[t-1] + k[t] v[t]'
y[t] = W_o (swish(W_g x_g) * norm(o[t]))                 state: S_BHKV, past_B1I (the input before)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew import ops
from clew.cells.base import Scanned
from clew.cells.heads import HeadNorm, heads_of, split
from clew.cells.rwkv7 import NORM_EPS, LowRank
from clew.errors import ShapeError
from clew.ops import definition as ref
from clew.ops.window import window
from clew.tree import State


class RWKV6State(NamedTuple):
    S: Tensor  # (B, H, K, V)
    past: Tensor  # (B, 1, I)


class RWKV6(Scanned):
    """A matrix per head that forgets each key at a rate read off the input, as is how much of the input before is seen.

    Args:
        heads: how many; 0 for as many as leave each at least 64 units.
        mix_rank: of the map that says how much of the input before is seen.
        decay_rank: of the map to the decays.

    Example:
        >>> y, state = RWKV6(8, 64, heads=2)(torch.randn(4, 100, 8))
    """

    cite = "Peng et al. 2024, arXiv:2404.05892"

    def __init__(
        self, input_size: int, hidden_size: int, *, heads: int = 0, mix_rank: int = 32, decay_rank: int = 64
    ) -> None:
        super().__init__(input_size, hidden_size)
        if min(mix_rank, decay_rank) < 1:
            raise ShapeError(f"RWKV6: ranks must be at least 1, got {mix_rank} and {decay_rank}")
        self.heads = heads_of("RWKV6", hidden_size, heads)
        self.head_size = hidden_size // self.heads
        self.mix_x = nn.Parameter(torch.empty(input_size))
        self.mix = nn.Parameter(torch.empty(5, input_size))  # w, k, v, r, g
        self.to_mix = nn.Linear(input_size, 5 * mix_rank, bias=False)
        self.mix_up = nn.Parameter(torch.empty(5, mix_rank, input_size))
        self.to_w = LowRank(input_size, decay_rank, hidden_size, torch.tanh)
        self.to_k = nn.Linear(input_size, hidden_size, bias=False)
        self.to_v = nn.Linear(input_size, hidden_size, bias=False)
        self.to_r = nn.Linear(input_size, hidden_size, bias=False)
        self.to_gate = nn.Linear(input_size, hidden_size, bias=False)
        self.bonus = nn.Parameter(torch.empty(self.heads, self.head_size))  # u
        self.norm = HeadNorm(self.heads, self.head_size, centred=True, bias=True, eps=NORM_EPS)
        self.out = nn.Linear(hidden_size, hidden_size, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """As the authors begin, but for W_o, which they set to 0 since it ends in a residual: y would be 0."""
        for linear, gain in (
            (self.to_k, 0.1),
            (self.to_v, 1.0),
            (self.to_r, 1.0),
            (self.to_gate, 0.1),
            (self.out, 1.0),
        ):
            nn.init.orthogonal_(linear.weight, gain)
        place = torch.arange(self.input_size) / self.input_size
        self.mix_x.copy_(1 - place)
        for mix, power in zip(self.mix, (1.0, 1.0, 1.0, 0.5, 0.5), strict=True):
            mix.copy_(1 - place**power)
        nn.init.zeros_(self.to_mix.weight)
        nn.init.zeros_(self.to_w.down.weight)
        nn.init.uniform_(self.mix_up, -0.01, 0.01)
        nn.init.uniform_(self.to_w.up.weight, -0.01, 0.01)
        self.to_w.up.bias.copy_(5 * torch.linspace(0, 1, self.hidden_size) ** 0.7 - 6)
        zigzag = ((torch.arange(self.hidden_size) + 1) % 3 - 1) * 0.1
        self.bonus.copy_(zigzag.view_as(self.bonus))

    def init_state(self, batch_size: int, context: State | None = None) -> RWKV6State:
        new, D = self.mix.new_zeros, self.head_size
        return RWKV6State(new(batch_size, self.heads, D, D), new(batch_size, 1, self.input_size))

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        (before, _), past = window(x_BTI, state.past, lengths, reset)
        change = before - x_BTI
        low = torch.tanh(self.to_mix(torch.addcmul(x_BTI, change, self.mix_x))).unflatten(-1, (5, -1))
        mixes = torch.einsum("btjr,jri->jbti", low, self.mix_up) + self.mix[:, None, None]
        x_w, x_k, x_v, x_r, x_g = torch.addcmul(x_BTI, change, mixes)
        w = torch.exp(-torch.exp(self.to_w(x_w)))
        r, w, k, v = (split(part, self.heads) for part in (self.to_r(x_r), w, self.to_k(x_k), self.to_v(x_v)))
        o, S = read_then_write(r, k, v, w, state.S, initial.S, lengths, reset)
        o = o + (r * self.bonus * k).sum(-1, keepdim=True) * v
        return self.out(self.norm(o) * F.silu(self.to_gate(x_g))), RWKV6State(S, past)


def read_then_write(
    r_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHV: Tensor,
    w_BTHK: Tensor,
    S_BHKV: Tensor,
    initial: Tensor,
    lengths: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """S[t-1]' r[t] of S[t] = w[t] S[t-1] + k[t] v[t]', and the last state.

    `matrix_scan` writes before it reads, so each write moves to the step after it: there are T + 1 steps, of which the
    first writes nothing and the last is not read. Nor does a step write whose reset throws away what came before.
    """
    k, v, w = k_BTHK, v_BTHV, w_BTHK
    if reset is not None:
        real_BT = ref.valid_steps(r_BTHK, lengths)
        reset = F.pad(reset if real_BT is None else reset & real_BT, (0, 1))
        lost = reset[:, 1:, None, None]
        k, v, w = (torch.where(lost, x.new_full((), idle), x) for x, idle in ((k, 0.0), (v, 0.0), (w, 1.0)))
    late = (0, 0, 0, 0, 1, 0)
    k, v, w = F.pad(k, late), F.pad(v, late), F.pad(w, late, value=1.0)
    r = F.pad(r_BTHK, (0, 0, 0, 0, 0, 1))
    lengths = None if lengths is None else lengths.long() + 1
    o, S_BHKV = ops.matrix_scan(r, k, v, w, S_BHKV, initial=initial, lengths=lengths, reset=reset)
    return o[:, :-1], S_BHKV
