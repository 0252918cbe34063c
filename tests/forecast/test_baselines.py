"""The naive forecasts, worked by hand."""

import numpy as np

from clew.forecast import last_value, seasonal_naive

HISTORY = np.arange(1.0, 8.0)[:, None]  # 1 .. 7


def test_last_value_repeats_the_last() -> None:
    assert last_value(HISTORY, 3)[:, 0].tolist() == [7, 7, 7]


def test_seasonal_naive_repeats_the_last_season() -> None:
    assert seasonal_naive(HISTORY, 5, 3)[:, 0].tolist() == [5, 6, 7, 5, 6]


def test_a_history_shorter_than_a_season_repeats_whole() -> None:
    assert seasonal_naive(HISTORY[:2], 5, 3)[:, 0].tolist() == [1, 2, 1, 2, 1]
