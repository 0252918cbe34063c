"""One class of K at each step: labels, tags, the next unit of a text.

loss = mean cross-entropy, by choice weighted by class and smoothed (Szegedy et al. 2016, arXiv:1512.00567, sec. 7)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from clew.ops.dropout import dropout


class ClassHead(nn.Module):
    """Args: width of an output, K classes, weights (K,) of the classes in the loss, smoothing, dropout of outputs."""

    weights: Tensor | None

    def __init__(
        self, width: int, classes: int, weights: Tensor | None = None, smoothing: float = 0.0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.readout, self.smoothing, self.dropout = nn.Linear(width, classes), smoothing, dropout
        self.register_buffer("weights", weights)

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Args: outputs (N, W) and classes (N,)."""
        logits = self.readout(dropout(y, self.dropout, self.training))
        return F.cross_entropy(logits, target, self.weights, label_smoothing=self.smoothing)

    def predict(self, y: Tensor) -> Tensor:
        """Log-probabilities (..., K) from outputs (..., W)."""
        return self.readout(y).log_softmax(-1)
