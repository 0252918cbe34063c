"""Series of numbers: the parts in time order, their scale, their season and trend.

T time, C columns
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clew.errors import DataError, RunError

SMALLEST = 10  # steps a series needs before it can be parted at all


@dataclass(frozen=True)
class Scaler:
    """Standardises each column: (x - mean) / std, both (C,) and of the training part only."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, values_TC: np.ndarray) -> Scaler:
        """A column that never changes keeps its size."""
        std = values_TC.std(0)
        return cls(values_TC.mean(0), np.where(std > 1e-12 * np.abs(values_TC).max(0).clip(1e-300), std, 1.0))

    def apply(self, values_TC: np.ndarray) -> np.ndarray:
        out_TC = values_TC - self.mean
        out_TC /= self.std
        return out_TC

    def single(self, values_TC: np.ndarray) -> np.ndarray:
        """As `apply`, in single precision. Raises DataError where a number does not fit into that."""
        try:
            with np.errstate(over="raise"):
                return self.apply(values_TC).astype(np.float32)
        except FloatingPointError as error:
            worst = values_TC.flat[int(np.abs(self.apply(values_TC)).argmax())]
            raise DataError(f"{worst:g} is beyond what the model can be told", hint="is its unit right?") from error

    def invert(self, values: np.ndarray, columns: Sequence[int] | None = None) -> np.ndarray:
        """Back to the data's own units. `columns` are those that the last axis holds; None for all."""
        which = slice(None) if columns is None else list(columns)
        return values * self.std[which] + self.mean[which]

    def to_json(self) -> dict[str, list[float]]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Scaler:
        """Raises RunError where the object does not hold a scaler."""
        try:
            mean, std = (np.array(saved[name], dtype=np.float64) for name in ("mean", "std"))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise RunError(f"no scaler: {error}") from error
        if mean.ndim != 1 or mean.shape != std.shape or not np.isfinite([mean, std]).all() or (std <= 0).any():
            raise RunError("no scaler: mean and std must be as many finite numbers, std above 0")
        return cls(mean, std)


def split(steps: int, valid: float, test: float) -> tuple[slice, slice, slice]:
    """Training, validation and test part of a series, in time order; no step is in two of them. A fraction of 0 is an
    empty part.

    Raises:
        DataError: a series of fewer than 10 steps.
    """
    if steps < SMALLEST:
        raise DataError(f"a series of {steps} steps is too short to train on", hint=f"it needs at least {SMALLEST}")
    n_test, n_valid = (max(1, round(steps * part)) if part else 0 for part in (test, valid))
    first = steps - n_test - n_valid
    return slice(0, first), slice(first, first + n_valid), slice(first + n_valid, steps)


def find_season(values_T: np.ndarray, longest: int | None = None) -> int:
    """The length of the season, or 1 where there is none.

    The autocorrelation of the detrended series is searched for its first peak that stands near the highest one: a
    season shows at its length and at every multiple, so the first is the season. A peak must be higher than 0.3 and
    than what noise of this length reaches, rise from a valley, which an autocorrelation that only decays does not
    have, and come again at twice its lag, which the accidental peaks of a random walk seldom do.

    Args:
        longest: the longest season to look for; a third of the series by default, as three seasons must be seen.
    """
    y = np.asarray(values_T, dtype=np.float64)
    longest = min(longest or len(y) // 3, len(y) // 3)
    if longest < 2 or np.ptp(y) == 0:
        return 1
    t = np.linspace(-1.0, 1.0, len(y))
    y = y - np.polyval(np.polyfit(t, y, 2), t)
    if y.std() < 1e-9 * np.abs(values_T).max():
        return 1
    correlation = _autocorrelation(y, min(len(y) - 1, 2 * longest + longest // 8 + 1))
    valley = np.minimum.accumulate(correlation)
    lags = np.arange(2, longest + 1)
    high = correlation[lags]
    peak = (high >= correlation[lags - 1]) & (high >= correlation[lags + 1])
    peak &= (high > np.maximum(0.3, 3 / np.sqrt(len(y) - lags))) & (high - valley[lags] > 0.3)
    good = np.array([lag for lag in lags[peak] if _comes_again(correlation, lag)], dtype=int)
    return int(good[correlation[good] > 0.8 * correlation[good].max()][0]) if len(good) else 1


def _autocorrelation(y_T: np.ndarray, longest: int) -> np.ndarray:
    """At the lags 0..longest, unbiased, so that later peaks do not shrink."""
    spectrum = np.abs(np.fft.rfft(y_T, 2 * len(y_T))) ** 2
    sums = np.fft.irfft(spectrum, 2 * len(y_T))[: longest + 1]
    correlation = sums / np.arange(len(y_T), len(y_T) - longest - 1, -1)
    return correlation / correlation[0]


def _comes_again(correlation: np.ndarray, lag: int) -> bool:
    """Whether about twice the lag there is a second peak with a valley between; cycles need not be quite regular."""
    near = max(1, lag // 8)
    second = correlation[2 * lag - near : 2 * lag + near + 1].max()
    between = correlation[lag + lag // 4 : 2 * lag - lag // 4 + 1].min()
    return bool(second > 0.4 * correlation[lag] and second - between > 0.1)


def is_trending(values_T: np.ndarray, season: int = 1) -> bool:
    """Whether a straight line explains more than half of the series' variance, once a season is averaged out."""
    y = np.asarray(values_T, dtype=np.float64)
    if len(y) >= 3 * season > 3:
        y = np.convolve(y, np.ones(season) / season, mode="valid")
    if len(y) < 3 or y.std() == 0:
        return False
    return bool(np.corrcoef(np.arange(len(y)), y)[0, 1] ** 2 > 0.5)
