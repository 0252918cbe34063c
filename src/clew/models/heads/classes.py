"""One class of K at each step: labels, tags, the next unit of a text.

loss = mean cross-entropy, by choice weighted by class and smoothed (Szegedy et al. 2016, arXiv:1512.00567, sec. 7)
       + matching * (mean H(p) - H*)^2: predictions as varied as what they predict (entropy matching)

H is Shannon's entropy in nats, H* that of the target's own distribution, smoothed: 0 for classes without smoothing.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.models.heads import vocabulary
from clew.ops.dropout import dropout


class ClassHead(nn.Module):
    """Args:
    width: of an output.
    classes: K.
    weights: (K,) of the classes in the loss.
    smoothing: the part of a target's probability that is spread over all classes.
    dropout: of outputs.
    matching: weight of the entropy matching.
    entropy: H* in nats; None for that of the smoothed targets.
    readout: outputs to K scores; None for a linear map of its own.
    """

    weights: Tensor | None

    def __init__(
        self,
        width: int,
        classes: int,
        weights: Tensor | None = None,
        smoothing: float = 0.0,
        dropout: float = 0.0,
        *,
        matching: float = 0.0,
        entropy: float | None = None,
        readout: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.readout, self.smoothing, self.dropout = readout or nn.Linear(width, classes), smoothing, dropout
        self.matching, self.entropy = matching, smoothed_entropy(smoothing, classes) if entropy is None else entropy
        self.register_buffer("weights", weights)

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Args: outputs (N, W) and classes (N,)."""
        y = dropout(y, self.dropout, self.training)
        if isinstance(self.readout, nn.Linear | Tied) and self.weights is None and not self.matching:
            weight, bias = self.readout.weight, self.readout.bias
            if vocabulary.takes(y, weight):
                return vocabulary.cross_entropy(y, weight, bias, target, self.smoothing)
        logits = self.readout(y)
        loss = F.cross_entropy(logits, target, self.weights, label_smoothing=self.smoothing)
        if not self.matching:
            return loss
        mean = torch.special.entr(logits.softmax(-1)).sum(-1).mean()
        return loss + self.matching * (mean - self.entropy) ** 2

    def predict(self, y: Tensor) -> Tensor:
        """Log-probabilities (..., K) from outputs (..., W)."""
        return self.readout(y).log_softmax(-1)


def smoothed_entropy(smoothing: float, classes: int) -> float:
    """The entropy in nats of one class of K whose probability is smoothed."""
    other = smoothing / classes
    first = 1 - smoothing + other
    return -first * math.log(first) - ((classes - 1) * other * math.log(other) if other else 0.0)


class Tied(nn.Module):
    """Scores by the vectors that units are read with (Press & Wolf 2017, arXiv:1608.05859), and a bias.

    The vectors are those of `embedding`, which holds them; here they are no parameter.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self._embedding = (embedding,)
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))

    @property
    def weight(self) -> Tensor:
        return self._embedding[0].weight

    def forward(self, y: Tensor) -> Tensor:
        return F.linear(y, self.weight, self.bias)
