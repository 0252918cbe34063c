"""How far numbers are off."""

from __future__ import annotations

import math

import numpy as np


class Numbers:
    """Accumulates N numbers at a time: rmse, mae, and r2 = 1 - squared error / squared deviation from the mean."""

    def __init__(self) -> None:
        self._n, self._squared, self._absolute, self._mean, self._deviation = 0, 0.0, 0.0, 0.0, 0.0

    def update(self, truth_N: np.ndarray, predicted_N: np.ndarray) -> None:
        error, n = predicted_N - truth_N, len(truth_N)
        if not n:
            return
        self._squared += float((error**2).sum())
        self._absolute += float(np.abs(error).sum())
        # Two sets of numbers joined without a loss of digits (Chan et al. 1979).
        shift = float(truth_N.mean()) - self._mean
        total = self._n + n
        self._deviation += float(((truth_N - truth_N.mean()) ** 2).sum()) + shift**2 * self._n * n / total
        self._mean += shift * n / total
        self._n = total

    def result(self) -> dict[str, float]:
        """r2 of numbers that are all the same is 0, as their mean explains all there is. Raises ZeroDivisionError
        before the first update."""
        r2 = 1 - self._squared / self._deviation if self._deviation else 0.0
        return {"rmse": math.sqrt(self._squared / self._n), "mae": self._absolute / self._n, "r2": r2}
