"""The delta rule: the state unlearns what a key held before it learns what it shall hold.

Schlag, Irie & Schmidhuber 2021, arXiv:2102.11174, section 4.2; Yang, Wang, Zhang, Shen & Kim 2024, arXiv:2406.06484,
sections 2.2 and 3.3.

q, k, v = silu(c[t]),  c[t] = sum over j of w[j] (W x)[t - P + j]     B batch, T time, H heads
q, k each divided by its length                                       K keys, V values of a head
beta[t] = sigmoid(W_beta x[t])                                        P inputs of the past = conv - 1
S[t] = (I - beta[t] k[t] k[t]') S[t-1] + beta[t] k[t] v[t]'
o[t] = S[t]' q[t] / sqrt(K)
y[t] = W_o rms(o[t])                                                  state: past_BPD (D: q, k, v of all), S_BHKV
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew import ops
from clew.cells.base import Scanned
from clew.cells.heads import HeadNorm, each_of, heads_of, split
from clew.errors import ShapeError
from clew.tree import State

LEAST = 1e-6  # under the root of a length, which may be 0


class DeltaState(NamedTuple):
    past: Tensor  # (B, P, D) inputs of the convolution, the oldest first
    S: Tensor  # (B, H, K, V)


class DeltaNet(Scanned):
    """A matrix per head, corrected at each step towards giving v for k.

    Args:
        heads: how many; 0 for as many as leave each at least 64 units.
        keys: width of all keys together, as a part of hidden_size.
        conv: taps of the convolution over time; 1 for the present input alone.
        positive: q and k are 1 + elu and sum to 1, as Schlag et al. have them; else silu, and of length 1.
        negative: beta reaches to 2, so that a step may turn what a key holds round (Grazzi et al. 2024,
            arXiv:2411.12537): it takes that to count modulo 2.

    Example:
        >>> y, state = DeltaNet(8, 64, heads=2)(torch.randn(4, 100, 8))
    """

    cite = "Yang et al. 2024, arXiv:2406.06484"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int = 0,
        keys: float = 1.0,
        conv: int = 4,
        positive: bool = False,
        negative: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.heads, self.scale = heads_of("DeltaNet", hidden_size, heads), 2.0 if negative else 1.0
        width = round(hidden_size * keys)
        self.to_qkv = ConvolvedQKV("DeltaNet", input_size, self.heads, width, hidden_size, conv, positive)
        self.to_beta = nn.Linear(input_size, self.heads, bias=False)
        self.norm = HeadNorm(self.heads, hidden_size // self.heads, gain="shared")
        self.out = nn.Linear(hidden_size, hidden_size, bias=False)

    def init_state(self, batch_size: int, context: State | None = None) -> DeltaState:
        return self.to_qkv.init_state(batch_size)

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, DeltaState]:
        q, k, v, past = self.to_qkv(x_BTI, state.past, lengths, reset)
        beta_BTH1 = self.scale * torch.sigmoid(self.to_beta(x_BTI))[..., None]
        kept, write = torch.ones_like(beta_BTH1), beta_BTH1 * k
        o, S = ops.matrix_scan(
            q, write, v, kept, state.S, initial=initial.S, erase=(-write, k), lengths=lengths, reset=reset
        )
        return self.out(self.norm(o)), DeltaState(past, S)


class ConvolvedQKV(nn.Module):
    """What a delta rule reads, writes by and writes: projected, convolved over time, q and k normalised; q / sqrt(K).

    Args:
        cell: whose they are, for messages.
        keys: width of all keys together; `values` likewise.
        conv: taps.
        positive: see `DeltaNet`.
    """

    def __init__(
        self, cell: str, input_size: int, heads: int, keys: int, values: int, conv: int, positive: bool = False
    ) -> None:
        super().__init__()
        for name, width in (("keys", keys), ("values", values)):
            each_of(cell, name, width, heads)
        if conv < 1:
            raise ShapeError(f"{cell}: conv must be at least 1 tap, got {conv}")
        self.heads, self.positive, self.sizes = heads, positive, (keys, keys, values)
        width = sum(self.sizes)
        self.project = nn.Linear(input_size, width, bias=False)
        self.conv = nn.Conv1d(width, width, conv, groups=width, bias=False)  # the weights; `ops.short_conv` runs it

    def init_state(self, batch_size: int) -> DeltaState:
        zeros, (keys, _, values) = self.conv.weight.new_zeros, self.sizes
        return DeltaState(
            zeros(batch_size, self.conv.kernel_size[0] - 1, sum(self.sizes)),
            zeros(batch_size, self.heads, keys // self.heads, values // self.heads),
        )

    def forward(
        self, x_BTI: Tensor, past_BPD: Tensor, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q, k (B, T, H, K), v (B, T, H, V) and the past after the last real step."""
        how = {"silu": not self.positive, "lengths": lengths, "reset": reset}
        c, past = ops.short_conv(self.project(x_BTI), past_BPD, self.conv.weight[:, 0], **how)
        q, k, v = (split(part, self.heads) for part in c.split(self.sizes, -1))
        if self.positive:
            q, k, v = shares(F.elu(q) + 1), shares(F.elu(k) + 1), F.silu(v)
        else:
            q, k = unit(q), unit(k)
        return q * q.shape[-1] ** -0.5, k, v, past


def unit(x: Tensor) -> Tensor:
    """Of length 1, or nearly 0 where x is; smooth there too."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + LEAST)


def shares(x: Tensor) -> Tensor:
    """Positive numbers divided by their sum."""
    return x / (x.sum(-1, keepdim=True) + LEAST)
