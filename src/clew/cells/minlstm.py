"""Minimal long short-term memory (Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, arXiv:2410.01201, section 3.2).

f[t] = sigmoid(W_f x[t] + b_f)                                     B batch, H hidden
i[t] = sigmoid(W_i x[t] + b_i)
c[t] = g(W_h x[t] + b_h)                                           g: the positive candidate of `cells.mingru`
h[t] = (f[t] h[t-1] + i[t] c[t]) / (f[t] + i[t])                   state: h_BH
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.cells.base import LinearRecurrence
from clew.cells.mingru import positive
from clew.errors import ConfigError


class MinLSTM(LinearRecurrence):
    """An LSTM whose gates see the input alone and share 1 between them, so that h is a running mean of candidates.

    Args:
        positive: candidates pass through g, as the paper trains them; else they are linear, as it first defines them.
        forget_bias: initial b_f; larger ones remember longer from the start and train faster (the paper's appendix).

    Raises:
        ConfigError: a forget_bias without bias.

    Example:
        >>> y, h = MinLSTM(8, 32)(torch.randn(4, 100, 8))
    """

    cite = "Feng et al. 2024, arXiv:2410.01201"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        positive: bool = True,
        forget_bias: float | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if forget_bias is not None and not bias:
            raise ConfigError("MinLSTM: forget_bias needs bias=True")
        self.positive = positive
        self.to_forget = nn.Linear(input_size, hidden_size, bias)
        self.to_input = nn.Linear(input_size, hidden_size, bias)
        self.to_candidate = nn.Linear(input_size, hidden_size, bias)
        if forget_bias is not None:
            nn.init.constant_(self.to_forget.bias, forget_bias)

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # f / (f + i) = sigmoid(log f - log i): no 0 / 0 where both gates are shut.
        odds = F.logsigmoid(self.to_forget(x)) - F.logsigmoid(self.to_input(x))
        candidate = self.to_candidate(x)
        return torch.sigmoid(odds), torch.sigmoid(-odds) * (positive(candidate) if self.positive else candidate)
