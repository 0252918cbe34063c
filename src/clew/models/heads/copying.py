"""A unit is written from the vocabulary, or copied from where the decoder looks (pointer-generator network: See et al.
2017, arXiv:1704.04368, eq. 8-9).

p(w)  = g softmax(W y + b)[w] + (1 - g) sum over the places s that hold w of a[s],    g = sigmoid(v' y + c)

Units are those of a vocabulary, 0 to V - 1, and behind them, from V on, the words of the source that it lacks.

N steps, S places of the source, V units known, E of a batch's sources that are not
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.ops.dropout import dropout

TINY = 1e-20  # what a unit has that stands nowhere, so that its logarithm is a number


class CopyHead(nn.Module):
    """Args:
    width: of an output.
    size: V.
    smoothing: the part of a target's probability that is spread over the vocabulary.
    dropout: of outputs.
    readout: outputs to V scores; None for a linear map of its own.
    """

    def __init__(
        self, width: int, size: int, smoothing: float = 0.0, dropout: float = 0.0, readout: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.readout, self.gate = readout or nn.Linear(width, size), nn.Linear(width, 1)
        self.size, self.smoothing, self.dropout = size, smoothing, dropout

    def loss(self, y_NW: Tensor, target_N: Tensor, weights_NS: Tensor, units_NS: Tensor) -> Tensor:
        """The mean loss, from outputs, units, where the decoder looked, and what stands there."""
        y_NW = dropout(y_NW, self.dropout, self.training)
        known_NV, gate_N = self.readout(y_NW).log_softmax(-1), self.gate(y_NW)[:, 0]
        written_N = F.logsigmoid(gate_N) + known_NV.gather(1, target_N.clamp(max=self.size - 1)[:, None])[:, 0]
        written_N = written_N.masked_fill(target_N >= self.size, -torch.inf)
        there_N = (weights_NS * (units_NS == target_N[:, None])).sum(1)
        copied_N = F.logsigmoid(-gate_N) + there_N.clamp(min=TINY).log()
        loss = -torch.logaddexp(written_N, copied_N).mean()
        return loss if not self.smoothing else (1 - self.smoothing) * loss - self.smoothing * known_NV.mean()

    def predict(self, y: Tensor, weights: Tensor, units_BS: Tensor, extra: int) -> Tensor:
        """Log-probabilities (B, ..., V + E) from outputs (B, ..., W) and weights (B, ..., S); E is `extra`."""
        gate = self.gate(y)
        written = F.logsigmoid(gate) + self.readout(y).log_softmax(-1)
        written = F.pad(written, (0, extra), value=-torch.inf)
        units = units_BS.view(len(units_BS), *[1] * (weights.ndim - 2), -1).expand_as(weights)
        there = torch.zeros_like(written).scatter_add(-1, units, weights)
        copied = F.logsigmoid(-gate) + there.log()
        return torch.logaddexp(written, copied)
