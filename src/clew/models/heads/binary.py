"""Several things at each step, of which each is there or not: the keys that sound, the labels that hold.

loss = -sum over things of ln p(there or not)             p = sigmoid(W y + b), each by itself given y
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.ops.dropout import dropout


class BinaryHead(nn.Module):
    """Args:
    width: of an output.
    shares: how often each of the K things is there, by which b begins.
    dropout: of outputs.
    """

    def __init__(self, width: int, shares: Tensor, dropout: float = 0.0) -> None:
        super().__init__()
        self.readout, self.dropout = nn.Linear(width, len(shares)), dropout
        with torch.no_grad():
            self.readout.bias.copy_(torch.logit(shares.clamp(1e-4, 1 - 1e-4)))

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Args: outputs (N, W) and targets (N, K), 1 for what is there; nats of a step."""
        logits = self.readout(dropout(y, self.dropout, self.training))
        return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / max(1, len(y))

    def predict(self, y: Tensor) -> Tensor:
        """Log-odds (..., K)."""
        return self.readout(y)
