"""How far back data reach: mutual information between a step and the one d before it.

I(d) = sum over a, b of p(a, b) ln (p(a, b) / (p(a) p(b)))     nats; a and b are symbols d steps apart
I(d) is fitted by I0 exp(-l d) where it stands clear of noise; K = ln(1/e) / l is where it falls under the share e of
I0. What stands out behind a gap alone (an answer that asks for one step long ago) is taken as it is.

Numbers are cut into classes of equal size. What counts add to I(d) where there is nothing, (A - 1) (B - 1) / 2n, is
taken off (Miller 1955, "Note on the bias of information estimates").
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

CLASSES = 8  # of numbers
FAR = 20  # lags from which the noise is told
CLEAR, SURE = 4.0, 20.0  # times the noise of I(d) above which a lag is fitted, and counts in full


class Dependency(NamedTuple):
    """What is found about lags 1, 2, ..., D."""

    nats: list[float]  # I(d)
    noise: float  # how large I(d) is where there is none, root mean square
    first: float  # I0 of the fit
    rate: float  # l; 0 where nothing falls, infinite where there is nothing

    def horizon(self, share: float = 0.01) -> float:
        """K, in steps; 0 where there is no dependency, infinite where it does not fall."""
        if math.isinf(self.rate):
            return 0.0
        return math.log(1 / share) / self.rate if self.rate > 0 else math.inf


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

    nats = [nats_at(d) for d in range(1, most + 1)]
    # What steps of unlike sequences, or at lags far beyond, tell of each other is chance, with all that the series' own
    # slowness adds to it.
    if N > 1:
        chance = [nats_at(1 + k % most, 1 + k * (N - 1) // FAR) for k in range(FAR)]
    else:
        far = np.unique(np.linspace(min(2 * most, n // 2), min(4 * most, n // 2), FAR).astype(int))
        chance = [nats_at(int(d)) for d in far]
    noise = math.sqrt(sum(value**2 for value in chance) / len(chance))
    # Up to the first lag that is lost in noise: behind it what stands out does so by chance.
    last = next((d for d in range(1, most + 1) if nats[d - 1] <= CLEAR * noise), most + 1) - 1
    if last < 1:
        if peaks := [d for d in range(1, most + 1) if nats[d - 1] > SURE * noise]:
            return Dependency(nats, noise, max(nats), math.log(100) / peaks[-1])
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
    kinds_a, kinds_b = (joint.sum(1) > 0).sum(), (joint.sum(0) > 0).sum()
    return nats - (kinds_a - 1) * (kinds_b - 1) / (2 * n)


def to_symbols(series: np.ndarray) -> np.ndarray:
    """Whole numbers from 0: the symbols as they are, numbers by the class of equal size that they fall into."""
    series = np.asarray(series)
    if series.dtype.kind in "iub":
        return np.unique(series, return_inverse=True)[1].reshape(series.shape)
    cuts = np.quantile(series, np.linspace(0, 1, CLASSES + 1)[1:-1])
    return np.searchsorted(np.unique(cuts), series, side="right")
