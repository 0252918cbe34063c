"""Numbers at each step, standardised; loss = mean squared error."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from clew.ops.dropout import dropout


class NumberHead(nn.Module):
    """Args: width of an output, N numbers, dropout of outputs."""

    def __init__(self, width: int, numbers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.readout, self.dropout = nn.Linear(width, numbers), dropout

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Args: outputs (M, W) and numbers (M, N)."""
        return F.mse_loss(self.readout(dropout(y, self.dropout, self.training)), target)

    def predict(self, y: Tensor) -> Tensor:
        """Numbers (..., N) from outputs (..., W)."""
        return self.readout(y)
