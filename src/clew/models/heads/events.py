"""The probability of an event at each step, where most steps have none.

loss = mean of |t - p|^focal * w * H(t, p)          t the target, 1 at an event and less around it; p = sigmoid(W y + b)

focal    how little steps count that are right already (Lin et al. 2017, arXiv:1708.02002; for targets between 0 and 1
         Li et al. 2020, arXiv:2006.04388, eq. 4); 0 = cross-entropy
w        `weight` for the target's own part of H, 1 for the other
b        begins as ln(r / (1 - r)), r the share of events, so that they are not all that is learned at first
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.ops.dropout import dropout


class EventHead(nn.Module):
    """Args:
    width: of an output.
    share: r, between 0 and 1.
    weight: w.
    focal: at least 0.
    dropout: of outputs.
    """

    weight: Tensor

    def __init__(self, width: int, share: float, weight: float = 1.0, focal: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.readout, self.focal, self.dropout = nn.Linear(width, 1), focal, dropout
        nn.init.constant_(self.readout.bias, math.log(share / (1 - share)))
        self.register_buffer("weight", torch.tensor(weight))

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Args: outputs (N, W) and targets (N, 1)."""
        logits = self.readout(dropout(y, self.dropout, self.training))
        loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=self.weight, reduction="none")
        if self.focal:
            loss = loss * (target - torch.sigmoid(logits)).abs() ** self.focal
        return loss.mean()

    def predict(self, y: Tensor) -> Tensor:
        """Probabilities (..., 1) from outputs (..., W)."""
        return torch.sigmoid(self.readout(y))
