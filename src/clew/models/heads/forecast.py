"""Forecasts of the next K steps of N columns, learned at every step of a window.

loss = mean huber((y[t, k] - x[t + k]) / scale)      over the supervised t, k = 1..K (Huber 1964: robust to outliers)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ForecastHead(nn.Module):
    """Args: ahead K, targets N, scale (N,) the unit of the loss."""

    scale: Tensor

    def __init__(self, ahead: int, targets: int, scale: Tensor) -> None:
        super().__init__()
        self.ahead, self.targets = ahead, targets
        self.register_buffer("scale", scale.clone())

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Args: outputs (M, K x N) of M steps, and what came behind each, (M, K, N)."""
        error = (self.predict(y) - target) / self.scale
        return F.huber_loss(error, error.new_zeros(()).expand_as(error))

    def predict(self, y: Tensor) -> Tensor:
        """Forecasts (..., K, N) from outputs (..., K x N)."""
        return y.unflatten(-1, (self.ahead, self.targets))
