"""The gated delta rule (Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464, eq. 10 and section 3.4).

q, k, v and beta[t] as in DeltaNet (deltanet.py)                      B batch, T time, H heads
alpha[t] = exp(-exp(log_rate) softplus(W_a x[t] + b_a))               K keys, V values of a head
S[t] = alpha[t] (I - beta[t] k[t] k[t]') S[t-1] + beta[t] k[t] v[t]'  P inputs of the past = conv - 1
o[t] = S[t]' q[t] / sqrt(K)
y[t] = W_o (rms(o[t]) * swish(W_g x[t]))                              state: past_BPD (D: q, k, v of all), S_BHKV
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew import ops
from clew.cells.base import Scanned
from clew.cells.deltanet import ConvolvedQKV, DeltaState
from clew.cells.heads import HeadNorm, heads_of
from clew.cells.mamba import step_bias
from clew.tree import State


class GatedDeltaNet(Scanned):
    """DeltaNet whose heads also forget, all their keys at one rate that is read off the input.

    Args:
        heads: how many; 0 for as many as leave each at least 64 keys.
        keys: width of all keys together, as a part of hidden_size.
        expand: width of all values together, as a multiple of that of the keys.
        conv: taps of the convolution over time; 1 for the present input alone.
        negative: beta reaches to 2; see `DeltaNet`.
        dt_min: least initial softplus(b_a); they are drawn evenly on a log scale.
        dt_max: largest initial softplus(b_a).

    Example:
        >>> y, state = GatedDeltaNet(8, 64, heads=2)(torch.randn(4, 100, 8))
    """

    cite = "Yang et al. 2024, arXiv:2412.06464"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int = 0,
        keys: float = 0.75,
        expand: float = 2.0,
        conv: int = 4,
        negative: bool = False,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
    ) -> None:
        super().__init__(input_size, hidden_size)
        width = round(hidden_size * keys)
        values = round(width * expand)
        self.heads, self.scale = heads_of("GatedDeltaNet, keys", width, heads), 2.0 if negative else 1.0
        self.to_qkv = ConvolvedQKV("GatedDeltaNet", input_size, self.heads, width, values, conv)
        self.to_beta = nn.Linear(input_size, self.heads, bias=False)
        self.to_decay = nn.Linear(input_size, self.heads)
        self.to_decay.bias = nn.Parameter(step_bias("GatedDeltaNet", self.heads, dt_min, dt_max))
        self.log_rate = nn.Parameter(torch.empty(self.heads).uniform_(0.01, 16).log())
        self.to_gate = nn.Linear(input_size, values, bias=False)
        self.norm = HeadNorm(self.heads, values // self.heads, gain="shared")
        self.out = nn.Linear(values, hidden_size, bias=False)

    def init_state(self, batch_size: int, context: State | None = None) -> DeltaState:
        return self.to_qkv.init_state(batch_size)

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, DeltaState]:
        q, k, v, past = self.to_qkv(x_BTI, state.past, lengths, reset)
        beta_BTH1 = self.scale * torch.sigmoid(self.to_beta(x_BTI))[..., None]
        alpha_BTH1 = torch.exp(-self.log_rate.exp() * F.softplus(self.to_decay(x_BTI)))[..., None]
        write = beta_BTH1 * k
        erase = (-alpha_BTH1 * write, k)
        o, S = ops.matrix_scan(
            q, write, v, alpha_BTH1, state.S, initial=initial.S, erase=erase, lengths=lengths, reset=reset
        )
        return self.out(self.norm(o) * F.silu(self.to_gate(x_BTI))), DeltaState(past, S)
