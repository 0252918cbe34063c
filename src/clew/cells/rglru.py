"""Real-gated linear recurrent unit in its recurrent block (De et al. 2024, "Griffin", arXiv:2402.19427, section 2.4).

u[t] = conv(W_u x + b_u)[t]                        causal, 4 taps, a kernel a unit       B batch, T time, H hidden
r[t] = sigmoid(W_r u[t] + b_r)                     block-diagonal                        W units of the recurrence
i[t] = sigmoid(W_i u[t] + b_i)                     block-diagonal                        P = taps - 1
a[t] = exp(-8 softplus(Lambda) * r[t])
h[t] = a[t] * h[t-1] + sqrt(1 - a[t]^2) * (i[t] * u[t])
y[t] = W_y (h[t] * GeLU(W_g x[t] + b_g)) + b_y     state: past_BPW (what the convolution saw last), h_BW, begun_B
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew import ops
from clew.cells.base import Scanned
from clew.cells.heads import heads_of, split
from clew.errors import ShapeError
from clew.tree import State

SHARPNESS = 8.0  # c of the paper


class RGLRUState(NamedTuple):
    past: Tensor  # (B, P, W)
    h: Tensor  # (B, W)
    begun: Tensor  # (B,) bool


class RGLRU(Scanned):
    """The recurrent block of Griffin and Hawk: a gated linear recurrence with a decay of its own for each unit.

    Args:
        heads: blocks of the gates' matrices; 0 for as many as leave each at least 64 units.
        width: W; 0 for hidden_size. The paper takes about 4/3 of it.
        taps: of the convolution.
        whole_start: the first step of a sequence is not scaled by sqrt(1 - a^2), as in RecurrentGemma.

    Raises:
        ShapeError: blocks that do not share the width equally, or sizes that are too small.

    Example:
        >>> y, state = RGLRU(8, 64)(torch.randn(4, 100, 8))
    """

    cite = "De et al. 2024, arXiv:2402.19427"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int = 0,
        width: int = 0,
        taps: int = 4,
        whole_start: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if width < 0 or taps < 1:
            raise ShapeError(f"RGLRU: width must be at least 0 and taps at least 1, got {width} and {taps}")
        self.width = W = width or hidden_size
        self.heads, self.taps, self.whole_start = heads_of("RGLRU", W, heads), taps, whole_start
        self.to_u = _linear(input_size, W)
        self.to_gate = _linear(input_size, W)
        self.conv_weight = nn.Parameter(torch.randn(W, taps) * (0.01 / taps) ** 0.5)  # the official code's
        self.conv_bias = nn.Parameter(torch.zeros(W))
        self.recurrence_gate = BlockDiagonal(self.heads, W // self.heads)
        self.input_gate = BlockDiagonal(self.heads, W // self.heads)
        # exp(-8 softplus(Lambda)), the decay where the gate is fully open, is spread over [0.9, 0.999].
        decay = torch.empty(W, dtype=torch.float64).uniform_(0.9, 0.999)
        self.Lambda = nn.Parameter((-decay.log() / SHARPNESS).expm1().log().to(torch.get_default_dtype()))
        self.out = _linear(W, hidden_size)

    def init_state(self, batch_size: int, context: State | None = None) -> RGLRUState:
        past = self.Lambda.new_zeros(batch_size, self.taps - 1, self.width)
        begun = torch.zeros(batch_size, dtype=torch.bool, device=past.device)
        return RGLRUState(past, self.Lambda.new_zeros(batch_size, self.width), begun)

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        (past, h_BW, begun), T = state, x_BTI.shape[1]
        u, past = ops.short_conv(self.to_u(x_BTI), past, self.conv_weight, self.conv_bias, lengths=lengths, reset=reset)
        log_a = -SHARPNESS * F.softplus(self.Lambda) * torch.sigmoid(self.recurrence_gate(u))
        # Above 0, as the slope of the root there has no end.
        scale = torch.sqrt((-torch.expm1(2 * log_a)).clamp(min=torch.finfo(log_a.dtype).tiny))
        if self.whole_start:
            first_BT = ~begun[:, None] & (torch.arange(T, device=begun.device) == 0)
            first_BT = first_BT if reset is None else first_BT | reset
            scale = torch.where(first_BT[:, :, None], 1.0, scale)
        drive = scale * torch.sigmoid(self.input_gate(u)) * u
        h_BTW, h_BW = ops.linear_scan(log_a.exp(), drive, h_BW, initial=initial.h, lengths=lengths, reset=reset)
        begun = begun | (T > 0 if lengths is None else lengths.to(begun.device) > 0)
        gate = F.gelu(self.to_gate(x_BTI), approximate="tanh")
        return self.out(h_BTW * gate), RGLRUState(past, h_BW, begun)


class BlockDiagonal(nn.Module):
    """W x + b whose W (heads, D from, D to) maps each of `heads` parts of x to itself."""

    def __init__(self, heads: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(heads, size, size) / size**0.5)
        self.bias = nn.Parameter(torch.zeros(heads, size))

    def forward(self, x: Tensor) -> Tensor:
        return (torch.einsum("...hi,hij->...hj", split(x, len(self.weight)), self.weight) + self.bias).flatten(-2)


def _linear(width: int, to: int) -> nn.Linear:
    linear = nn.Linear(width, to)
    nn.init.normal_(linear.weight, std=width**-0.5)
    nn.init.zeros_(linear.bias)
    return linear
