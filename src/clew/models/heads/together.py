"""Several things at each step that are there together or not, as the keys of a chord: a mixture of Bernoullis (Bishop
2006, "Pattern Recognition and Machine Learning", section 9.3.3), above a recurrence.

p(v) = sum over m of w_m product over k of p_mk^v_k (1 - p_mk)^(1 - v_k)            w = softmax, p = sigmoid of W y + b

loss = -ln p, the mean over steps. With one component each thing is told by itself given y; more say which go together.

K things, M components, N steps, W numbers of an output
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.ops.dropout import dropout


class TogetherHead(nn.Module):
    """Args:
    width: of an output.
    shares: (K,) how often each thing is there, by which b begins.
    components: M.
    dropout: of outputs.
    """

    def __init__(self, width: int, shares: Tensor, components: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.components, self.dropout = components, dropout
        self.readout = nn.Linear(width, components * (1 + len(shares)))
        with torch.no_grad():
            odds = torch.logit(shares.clamp(1e-4, 1 - 1e-4))
            self.readout.bias.copy_(torch.cat([torch.zeros(components), odds.repeat(components)]))

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Args: outputs (N, W) and targets (N, K), 1 for what is there; nats of a step."""
        return self.surprise(self.predict(dropout(y, self.dropout, self.training)), target).mean()

    def predict(self, y: Tensor) -> Tensor:
        """What the distribution is made of, (..., M + M K); see `surprise`, `shares` and `draw`."""
        return self.readout(y)

    def surprise(self, predicted: Tensor, target: Tensor) -> Tensor:
        """-ln p of targets (..., K)."""
        w, odds = self._parts(predicted)
        each = (odds @ target[..., None])[..., 0] - F.softplus(odds).sum(-1)
        return -torch.logsumexp(w.log_softmax(-1) + each, -1)

    def shares(self, predicted: Tensor) -> Tensor:
        """How likely each thing is by itself, (..., K)."""
        w, odds = self._parts(predicted)
        return (w.softmax(-1)[..., None, :] @ torch.sigmoid(odds))[..., 0, :]

    def draw(self, predicted: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """One draw each, (B, K), from (B, M + M K); a temperature under 1 is nearer to the likeliest component and to
        what is likelier there than not, 0 that itself."""
        w, odds = self._parts(predicted)
        if temperature == 0:
            which = w.argmax(-1)
        else:
            which = torch.multinomial((w / temperature).softmax(-1), 1, generator=generator)[:, 0]
        odds = odds[torch.arange(len(which), device=which.device), which]
        if temperature == 0:
            return (odds > 0).to(odds.dtype)
        return torch.bernoulli(torch.sigmoid(odds / temperature), generator=generator)

    def _parts(self, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of components (..., M), and the log-odds of things in each, (..., M, K)."""
        w, odds = predicted[..., : self.components], predicted[..., self.components :]
        return w, odds.unflatten(-1, (self.components, -1))
