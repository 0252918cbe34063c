"""Minimal gated recurrent unit (Feng, Tung, Ahmed, Bengio & Hajimirsadegh 2024, arXiv:2410.01201, section 3.1).

z[t] = sigmoid(W_z x[t] + b_z)                                     B batch, H hidden
c[t] = g(W_h x[t] + b_h),  g(x) = x + 0.5 for x >= 0, else sigmoid(x)      (appendix B: positive candidates)
h[t] = (1 - z[t]) h[t-1] + z[t] c[t]                               state: h_BH
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clew.cells.base import LinearRecurrence


class MinGRU(LinearRecurrence):
    """A GRU whose gates see the input alone, so that it is linear in its state.

    Args:
        positive: candidates pass through g, as the paper trains them; else they are linear, as it first defines them.

    Example:
        >>> y, h = MinGRU(8, 32)(torch.randn(4, 100, 8))
    """

    cite = "Feng et al. 2024, arXiv:2410.01201"

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True, positive: bool = True) -> None:
        super().__init__(input_size, hidden_size)
        self.positive = positive
        self.to_gate = nn.Linear(input_size, hidden_size, bias)
        self.to_candidate = nn.Linear(input_size, hidden_size, bias)

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        gate = self.to_gate(x)
        candidate = self.to_candidate(x)
        return torch.sigmoid(-gate), torch.sigmoid(gate) * (positive(candidate) if self.positive else candidate)


def positive(x: Tensor) -> Tensor:
    """g of the paper's appendix B.2: continuous, increasing, and above 0."""
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))
