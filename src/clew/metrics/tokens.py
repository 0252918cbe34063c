"""How surprising the units of a text are."""

from __future__ import annotations

import math

import numpy as np

LONGEST = 700.0  # nats whose exponential is still a number


class Tokens:
    """Accumulates surprises: nats, bits and perplexity of a unit."""

    def __init__(self) -> None:
        self._nats, self.n = 0.0, 0

    def update(self, nats: float, n: int) -> None:
        """Args: the sum of -ln p over n units."""
        self._nats, self.n = self._nats + nats, self.n + n

    def result(self) -> dict[str, float]:
        """nats, bits, perplexity; NaN when nothing was added. Perplexity is at most e^700."""
        if self.n == 0:
            return dict.fromkeys(("nats", "bits", "perplexity"), math.nan)
        nats = self._nats / self.n
        return {"nats": nats, "bits": nats / math.log(2), "perplexity": math.exp(min(nats, LONGEST))}


def unigram(counts_V: np.ndarray, units_N: np.ndarray, smoothing: float = 1.0) -> float:
    """Nats a unit of a text under the frequencies of the training part, each count raised by `smoothing`.

    NaN of an empty text.
    """
    if len(units_N) == 0:
        return math.nan
    p_V = (counts_V + smoothing) / (counts_V.sum() + smoothing * len(counts_V))
    return float(-np.log(p_V[units_N]).mean())
