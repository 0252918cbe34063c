"""Numbers at each step whose distribution is a mixture of Gaussians, and flags beside them (mixture density networks:
Bishop 1994; above a recurrence: Graves 2013, arXiv:1308.0850, eq. 15-28, here for any number of dimensions).

p(v, f) = sum over m of w_m N(v; mu_m, A_m) * product over flags of p(f)
ln N    = sum_i ln a_ii - D/2 ln 2 pi - |A (v - mu)|^2 / 2      A lower triangular, a_ii > 0: A^T A = 1 / covariance

loss = -ln p, the mean over steps

D numbers, F flags, M components, W numbers of an output
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.ops.dropout import dropout

SHARPEST = math.log(100.0)  # of ln a_ii: no component is narrower than a hundredth of a deviation


class MixtureHead(nn.Module):
    """Args:
    width: of an output.
    numbers: D.
    flags: F.
    components: M.
    dropout: of outputs.
    """

    def __init__(self, width: int, numbers: int, flags: int = 0, components: int = 20, dropout: float = 0.0) -> None:
        super().__init__()
        self.numbers, self.flags, self.components, self.dropout = numbers, flags, components, dropout
        self.below = numbers * (numbers - 1) // 2
        self.readout = nn.Linear(width, components * (1 + 2 * numbers + self.below) + flags)

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Args: outputs (N, W) and targets (N, D + F): numbers, then flags; nats of a step."""
        return self.surprise(self.predict(dropout(y, self.dropout, self.training)), target).mean()

    def predict(self, y: Tensor) -> Tensor:
        """What the distribution is made of, (..., P); see `surprise` and `draw`."""
        return self.readout(y)

    def surprise(self, predicted: Tensor, target: Tensor) -> Tensor:
        """-ln p of targets (..., D + F)."""
        w, mu, diagonal, below, flags = self._parts(predicted)
        off = target[..., None, : self.numbers] - mu
        scaled = self._mixed(diagonal.exp() * off, below, off)
        each = diagonal.sum(-1) - 0.5 * scaled.square().sum(-1) - 0.5 * self.numbers * math.log(2 * math.pi)
        numbers = -torch.logsumexp(w.log_softmax(-1) + each, -1)
        given = target[..., self.numbers :]
        return numbers + F.binary_cross_entropy_with_logits(flags, given, reduction="none").sum(-1)

    def draw(self, predicted: Tensor, generator: torch.Generator, temperature: float = 1.0) -> Tensor:
        """One draw each, (B, D + F), from (B, P); a temperature under 1 is nearer to the likeliest, 0 that itself."""
        w, mu, diagonal, below, flags = self._parts(predicted)
        if temperature == 0:
            which = w.argmax(-1)
            p = (flags > 0).to(w.dtype)
        else:
            which = torch.multinomial((w / temperature).softmax(-1), 1, generator=generator)[:, 0]
            p = torch.bernoulli(torch.sigmoid(flags / temperature), generator=generator)
        rows = torch.arange(len(which), device=which.device)
        mu, diagonal, below = mu[rows, which], diagonal[rows, which], below[rows, which]
        noise = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype) * math.sqrt(temperature)
        found: list[Tensor] = []  # A off = noise, row by row
        for i in range(self.numbers):
            first = i * (i - 1) // 2
            rest = noise[:, i] - sum(below[:, first + j] * found[j] for j in range(i))
            found.append(rest * torch.exp(-diagonal[:, i]))
        return torch.cat([mu + torch.stack(found, -1), p], -1)

    def _parts(self, predicted: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Scores of components (..., M), means and ln a_ii (..., M, D), what is below a_ii, log-odds of flags."""
        M, D = self.components, self.numbers
        w, mu, diagonal, below, flags = predicted.split([M, M * D, M * D, M * self.below, self.flags], -1)
        diagonal = SHARPEST - F.softplus(SHARPEST - diagonal)
        return w, mu.unflatten(-1, (M, D)), diagonal.unflatten(-1, (M, D)), below.unflatten(-1, (M, self.below)), flags

    def _mixed(self, scaled: Tensor, below: Tensor, off: Tensor) -> Tensor:
        """A (v - mu), from its diagonal's part."""
        rows, first = [], 0
        for i in range(self.numbers):
            rows.append(scaled[..., i] + (below[..., first : first + i] * off[..., :i]).sum(-1))
            first += i
        return torch.stack(rows, -1)
