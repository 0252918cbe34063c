"""How far numbers are off."""

from __future__ import annotations

import math

import numpy as np


class Numbers:
    """Accumulates N numbers at a time: rmse, mae, and r2 = 1 - squared error / squared deviation from the mean."""

    def __init__(self) -> None:
        self._n, self._squared, self._absolute, self._mean, self._deviation = 0, 0.0, 0.0, 0.0, 0.0
        self._low, self._high = math.inf, -math.inf

    def update(self, truth_N: np.ndarray, predicted_N: np.ndarray) -> None:
        """Add N numbers as they came and as they were predicted."""
        assert truth_N.shape == predicted_N.shape
        y, f, n = np.asarray(truth_N, dtype=np.float64), np.asarray(predicted_N, dtype=np.float64), len(truth_N)
        if not n:
            return
        with np.errstate(over="ignore", invalid="ignore"):  # a prediction that ran away scores inf or NaN, unannounced
            self._squared += float(((f - y) ** 2).sum())
            self._absolute += float(np.abs(f - y).sum())
        # Two sets of numbers joined without a loss of digits (Chan et al. 1979).
        shift = float(y.mean()) - self._mean
        total = self._n + n
        self._deviation += float(((y - y.mean()) ** 2).sum()) + shift**2 * self._n * n / total
        self._mean += shift * n / total
        self._n = total
        self._low, self._high = min(self._low, float(y.min())), max(self._high, float(y.max()))

    def result(self) -> dict[str, float]:
        """rmse, mae, r2; NaN when nothing was added. r2 of numbers that are all the same is 0, as their mean explains
        all there is."""
        if self._n == 0:
            return dict.fromkeys(("rmse", "mae", "r2"), math.nan)
        # Told by the range: rounding gives equal numbers a deviation too.
        varied = self._high > self._low and self._deviation > 0
        r2 = 1 - self._squared / self._deviation if varied else 0.0
        return {"rmse": math.sqrt(self._squared / self._n), "mae": self._absolute / self._n, "r2": r2}
