"""The part of a block that mixes features and not time."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class GatedMLP(nn.Module):
    """y = W_out (swish(W_gate x) * W_in x), each step by itself (SwiGLU: Shazeer 2020, arXiv:2002.05202, eq. 6).

    Args:
        width: features in and out.
        inner: units between.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.silu(self.gate(x)) * self.up(x))
