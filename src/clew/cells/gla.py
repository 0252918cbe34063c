"""Gated linear attention (Yang, Wang, Shen, Panda & Kim 2023, arXiv:2312.06635, eq. 3-4 and section 4.4).

q, k, v = W_q x, W_k x, W_v x            per head; q and k have half the width of v     B batch, T time, H heads
w[t] = sigmoid(W_2 W_1 x[t] + b)^(1/16)  the decay of each key, through a low rank     K keys, V values of a head
S[t] = diag(w[t]) S[t-1] + k[t] v[t]'
o[t] = S[t]' q[t] / sqrt(K)
y[t] = W_o (rms(o[t]) * swish(W_r x[t]))                                                state: S_BHKV
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from clew import ops
from clew.cells.base import Scanned
from clew.cells.heads import HeadNorm, each_of, heads_of, split
from clew.tree import State


class GLA(Scanned):
    """Gated linear attention: a matrix per head that forgets each key at a rate of its own, read off the input.

    Args:
        heads: how many; 0 for as many as leave each at least 64 units.
        keys: width of all keys together, as a part of hidden_size.
        rank: of the map from the input to the decays.
        slowness: the decay is sigmoid(...)^(1/slowness); 16 lets a head remember from the start.

    Example:
        >>> y, state = GLA(8, 64, heads=2)(torch.randn(4, 100, 8))
    """

    cite = "Yang et al. 2023, arXiv:2312.06635"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int = 0,
        keys: float = 0.5,
        rank: int = 16,
        slowness: float = 16.0,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.heads = heads_of("GLA", hidden_size, heads)
        width = round(hidden_size * keys)
        self.key_size, self.value_size = each_of("GLA", "keys", width, self.heads), hidden_size // self.heads
        self.slowness = slowness
        self.to_q = nn.Linear(input_size, width, bias=False)
        self.to_k = nn.Linear(input_size, width, bias=False)
        self.to_v = nn.Linear(input_size, hidden_size, bias=False)
        self.to_gate = nn.Linear(input_size, hidden_size, bias=False)
        self.to_decay = nn.Sequential(nn.Linear(input_size, rank, bias=False), nn.Linear(rank, width))
        self.norm = HeadNorm(self.heads, self.value_size, gain="shared")
        self.out = nn.Linear(hidden_size, hidden_size, bias=False)

    def init_state(self, batch_size: int, context: State | None = None) -> Tensor:
        return self.out.weight.new_zeros(batch_size, self.heads, self.key_size, self.value_size)

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        q, k, v = (split(to(x_BTI), self.heads) for to in (self.to_q, self.to_k, self.to_v))
        w = split((F.logsigmoid(self.to_decay(x_BTI)) / self.slowness).exp(), self.heads)
        q = q * self.key_size**-0.5
        o, state = ops.matrix_scan(q, k, v, w, state, initial=initial, lengths=lengths, reset=reset)
        return self.out(self.norm(o) * F.silu(self.to_gate(x_BTI))), state
