"""A linear model of one series that drives another (ARX), simulated freely: what a recurrence is held against.

y[t] = c + sum over i = 1..n of a[i] y[t-i] + sum over j = 0..n of b[j] u[t-j]

Fitted by least squares one step ahead; the order is the one whose free simulation of the validation part is nearest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter

ORDERS = range(1, 41)


class Arx(NamedTuple):
    a: np.ndarray  # (n)
    b: np.ndarray  # (n + 1)
    c: float

    @property
    def order(self) -> int:
        return len(self.a)

    def simulate(self, u: np.ndarray) -> np.ndarray:
        """From u alone, at rest before: it settled on the first input long ago."""
        gain = (self.c + self.b.sum() * u[0]) / (1.0 - self.a.sum())  # where it rests at u[0]
        return gain + lfilter(self.b, np.r_[1.0, -self.a], u - u[0])


def fit(u: np.ndarray, y: np.ndarray, order: int) -> Arx:
    rows = np.arange(order, len(y))
    lags = [y[rows - i] for i in range(1, order + 1)] + [u[rows - j] for j in range(order + 1)]
    found = np.linalg.lstsq(np.stack([*lags, np.ones(len(rows))], 1), y[rows], rcond=None)[0]
    return Arx(found[:order], found[order:-1], float(found[-1]))


def chosen(train: tuple[np.ndarray, np.ndarray], valid: tuple[np.ndarray, np.ndarray]) -> Arx:
    """The best of all orders, by the simulation of the validation part."""
    return min((fit(*train, order) for order in ORDERS), key=lambda model: rmse(model.simulate(valid[0]), valid[1]))


def rmse(predicted: np.ndarray, true: np.ndarray) -> float:
    error = float(np.sqrt(np.mean((predicted - true) ** 2)))
    return error if np.isfinite(error) else float("inf")  # one that ran away is no choice
