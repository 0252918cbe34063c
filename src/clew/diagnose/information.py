"""How far back data reach: mutual information between a step and the one d before it.

I(d) = sum over a, b of p(a, b) ln (p(a, b) / (p(a) p(b)))     nats; a and b are symbols d steps apart
I(d) is fitted by I0 exp(-l d) where it stands clear of noise; K = ln(1/e) / l is where it falls under the share e of
I0. What stands out behind a gap (an answer that asks for one step long ago, a season) reaches as far as it stands.

Numbers are cut into classes of equal size; of many symbols the commonest are told apart, and all others are one, by
which I(d) can only fall. What counts add to I(d) where there is nothing, (K_ab - K_a - K_b + 1) / 2n of as many kinds
of pairs and of symbols as occur, is taken off (Miller 1955, "Note on the bias of information estimates").
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

CLASSES, SYMBOLS = 8, 64  # of numbers; of symbols
FAR = 20  # lags from which the noise is told
PERMANENT = 0.1  # of the most that steps tell: what is told so far off that nothing can fall
CLEAR, SURE = 4.0, 20.0  # times the noise of I(d) above which a lag is fitted, and counts in full


class Dependency(NamedTuple):
    """What is found about lags 1, 2, ..., D."""

    nats: list[float]  # I(d)
    noise: float  # how large I(d) is where there is none, root mean square
    first: float  # I0 of the fit
    rate: float  # l; 0 where nothing falls, infinite where there is nothing

    def horizon(self, share: float = 0.01) -> float:
        """K, in steps; 0 where there is no dependency, infinite where it does not fall."""
        fitted = math.log(1 / share) / self.rate if self.rate > 0 else math.inf
        least = max(SURE * self.noise, share * max(self.nats, default=0.0))
        sure = [d for d, nats in enumerate(self.nats, 1) if nats > least]
        return max(fitted, float(sure[-1]) if sure else 0.0)


def dependency(series: np.ndarray, most: int = 100, answers: np.ndarray | None = None) -> Dependency:
    """What steps tell of steps up to `most` later.

    Args:
        series: (n,) symbols as whole numbers, or numbers; (N, n) for several sequences.
        answers: the same shape, what is asked for at each step, where it is not the series itself: I(d) is then of a
            step and the answer d steps later.
    """
    rows = np.atleast_2d(to_symbols(series))
    later = rows if answers is None else np.atleast_2d(to_symbols(answers))
    N, n = rows.shape
    most = min(most, n - 2)
    if most < 1:
        return Dependency([], 0.0, 0.0, math.inf)

    def nats_at(d: int, apart: int = 0) -> float:
        return mutual_information(rows[:, : n - d].ravel(), np.roll(later, apart, 0)[:, d:].ravel())

    # What the correction leaves of chance, where most pairs never occur.
    mixed = np.random.default_rng(0).permutation(later.ravel())
    left = mutual_information(rows.ravel(), mixed)
    nats = [nats_at(d) - left for d in range(1, most + 1)]
    # What steps of unlike sequences, or at lags far beyond, tell of each other is chance, with all that the series' own
    # slowness adds to it.
    if N > 1:
        chance = [nats_at(1 + k % most, 1 + k * (N - 1) // FAR) - left for k in range(FAR)]
    else:
        far = np.unique(np.linspace(min(2 * most, n // 2), min(4 * most, n // 2), FAR).astype(int))
        chance = [nats_at(int(d)) - left for d in far]
    noise = math.sqrt(sum(value**2 for value in chance) / len(chance))
    kinds = (int(rows.max()) + 1) * (int(later.max()) + 1)
    if noise > PERMANENT * max(nats) and noise > 10 * math.sqrt(2 * kinds) / (2 * rows.size):
        return Dependency(nats, noise, nats[0], 0.0)  # far more than by chance: a trend, a season, which do not end
    # Up to the first lag that is lost in noise: behind it what stands out does so by chance.
    last = next((d for d in range(1, most + 1) if nats[d - 1] <= CLEAR * noise), most + 1) - 1
    if last < 1:
        return Dependency(nats, noise, 0.0, math.inf)
    if last < 3:
        return Dependency(nats, noise, nats[0], math.log(max(2.0, nats[0] / (CLEAR * noise))) / last)
    lags, clear_nats = np.arange(1, last + 1), np.array(nats[:last])
    down, at_0 = np.polyfit(lags, np.log(clear_nats), 1, w=np.minimum(1.0, clear_nats / (SURE * noise)))
    return Dependency(nats, noise, float(np.exp(at_0)), max(0.0, float(-down)))


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """I(a; b) in nats of paired symbols, counted from 0, what chance adds taken off; may be a little under 0."""
    A, B, n = int(a.max()) + 1, int(b.max()) + 1, len(a)
    joint = np.bincount(a * B + b, minlength=A * B).reshape(A, B) / n
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    seen = joint > 0
    nats = float((joint[seen] * np.log(joint[seen] / apart[seen])).sum())
    kinds = seen.sum() - seen.any(1).sum() - seen.any(0).sum() + 1
    return nats - float(kinds) / (2 * n)


def to_symbols(series: np.ndarray) -> np.ndarray:
    """Whole numbers from 0: symbols by how common they are, numbers by the class of equal size that they fall into."""
    series = np.asarray(series)
    kinds, which, counts = np.unique(series, return_inverse=True, return_counts=True)
    if series.dtype.kind in "iub" or len(kinds) <= CLASSES:
        rank = np.argsort(np.argsort(-counts, kind="stable"))
        return np.minimum(rank, SYMBOLS - 1)[which].reshape(series.shape)
    cuts = np.quantile(series, np.linspace(0, 1, CLASSES + 1)[1:-1])
    return np.searchsorted(
        np.unique(cuts), series
    )  # what equals a cut is below it: many zeros are a class of their own
