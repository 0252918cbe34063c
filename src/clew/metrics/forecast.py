"""How far forecasts are off (Hyndman & Koehler 2006, "Another look at measures of forecast accuracy").

mae = mean |y - f|        rmse = sqrt mean (y - f)^2        smape = mean 200 |y - f| / (|y| + |f|), in percent
mase = mean |y - f| / scale, scale = the mean absolute error of the seasonal naive forecast in the training part
"""

from __future__ import annotations

import math

import numpy as np


class Forecast:
    """Accumulates over forecasts of any shape; every forecast step counts the same."""

    def __init__(self) -> None:
        self._absolute: list[float] = []
        self._squared: list[float] = []
        self._symmetric: list[float] = []
        self._scaled: list[float] = []

    def update(self, truth: np.ndarray, forecast: np.ndarray, scale: float) -> None:
        """Add forecasts and what came (the same shape); `scale` is `seasonal_scale` of their series."""
        assert truth.shape == forecast.shape
        y, f = np.asarray(truth, dtype=np.float64).ravel(), np.asarray(forecast, dtype=np.float64).ravel()
        with np.errstate(over="ignore", invalid="ignore"):  # a forecast that ran away scores inf or NaN, unannounced
            error, size = np.abs(y - f), np.abs(y) + np.abs(f)
            symmetric = np.divide(200.0 * error, size, out=np.zeros_like(error), where=size != 0)
            self._absolute.extend(error.tolist())
            self._squared.extend((error**2).tolist())
            self._symmetric.extend(symmetric.tolist())
            self._scaled.extend((error / scale).tolist())

    def result(self) -> dict[str, float]:
        """mae, rmse, smape, mase; NaN when nothing was added."""
        n = len(self._absolute)
        if n == 0:
            return dict.fromkeys(("mae", "rmse", "smape", "mase"), math.nan)
        return {
            "mae": _mean(self._absolute),
            "rmse": math.sqrt(_mean(self._squared)),
            "smape": _mean(self._symmetric),
            "mase": _mean(self._scaled),
        }


def _mean(values: list[float]) -> float:
    try:
        return math.fsum(values) / len(values)  # exact, so order and chunking of the updates do not matter
    except OverflowError:
        return math.inf


def seasonal_scale(history_T: np.ndarray, season: int) -> float:
    """The mean of |y[t] - y[t - season]|: what mase divides by.

    A history shorter than a season is compared with its last value; one that never changes has the scale 1.
    """
    y = np.asarray(history_T, dtype=np.float64)
    lag = season if len(y) > season else 1
    scale = float(np.abs(y[lag:] - y[:-lag]).mean()) if len(y) > 1 else 0.0
    return scale if scale > 0 else 1.0
