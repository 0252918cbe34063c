"""Forecasts of the next K steps of N columns, learned at every step of a window.

loss = mean huber((y[t, k] - x[t + k]) / scale)      over t >= warm_up, k = 1..K (Huber 1964: robust to outliers)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ForecastHead(nn.Module):
    """Args: ahead K, targets N, scale (N,) the unit of the loss, warm_up steps of a window that do not count."""

    scale: Tensor

    def __init__(self, ahead: int, targets: int, scale: Tensor, warm_up: int) -> None:
        super().__init__()
        self.ahead, self.targets, self.warm_up = ahead, targets, warm_up
        self.register_buffer("scale", scale.clone())

    def inputs(self, batch: Tensor) -> Tensor:
        """The part of a window (B, W + K, C) that the model reads: all but its last K steps."""
        return batch[:, : batch.shape[1] - self.ahead]

    def loss(self, y: Tensor, batch: Tensor) -> Tensor:
        """Args: outputs (B, W, K x N) over the inputs of a window, and the window (B, W + K, C)."""
        truth_BTNK = batch[:, 1:, : self.targets].unfold(1, self.ahead, 1)
        error = (self.predict(y) - truth_BTNK.transpose(2, 3)) / self.scale
        kept = error[:, min(self.warm_up, error.shape[1] - 1) :]
        return F.huber_loss(kept, kept.new_zeros(()).expand_as(kept))

    def predict(self, y: Tensor) -> Tensor:
        """Forecasts (..., K, N) from outputs (..., K x N)."""
        return y.unflatten(-1, (self.ahead, self.targets))
