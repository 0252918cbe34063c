"""Naive forecasts (Hyndman & Athanasopoulos 2021, section 5.2): what a model must beat to be worth its weights.

T time, N columns, H horizon
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Baseline = Callable[[np.ndarray, int, int], np.ndarray]


def last_value(history_TN: np.ndarray, horizon: int, season: int = 1) -> np.ndarray:
    """The last value, H times: (H, N)."""
    return np.repeat(history_TN[-1:], horizon, axis=0)


def seasonal_naive(history_TN: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """The last season, again and again: (H, N). A history shorter than a season repeats as a whole."""
    last = history_TN[-min(season, len(history_TN)) :]
    return last[np.arange(horizon) % len(last)]


BASELINES: dict[str, Baseline] = {"seasonal_naive": seasonal_naive, "last_value": last_value}
