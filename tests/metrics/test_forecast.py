"""Metrics of forecasts, against values worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.metrics import Forecast, seasonal_scale

NUMBER = st.floats(-1e6, 1e6)


def scored(truth, forecast, scale=1.0):
    metric = Forecast()
    metric.update(np.array(truth, dtype=float), np.array(forecast, dtype=float), scale)
    return metric.result()


def test_by_hand():
    result = scored([1, 2, 3, 0], [2, 2, 1, 0], scale=0.5)
    assert result["mae"] == 3 / 4
    assert result["rmse"] == math.sqrt(5 / 4)
    assert result["smape"] == pytest.approx((200 / 3 + 0 + 100 + 0) / 4)
    assert result["mase"] == 3 / 2


def test_smape_goes_from_0_to_200():
    assert scored([1], [-1])["smape"] == 200
    assert scored([0], [5])["smape"] == 200
    assert scored([0, 0], [0, 0])["smape"] == 0


@settings(deadline=None)  # others may keep the machine busy
@given(st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=30), st.data())
def test_any_chunking_and_order_gives_the_very_same(pairs, data):
    truth, forecast = np.array(pairs).T
    order = np.array(data.draw(st.permutations(range(len(pairs)))))
    cut = data.draw(st.integers(0, len(pairs)))
    chunked = Forecast()
    for part in (order[:cut], order[cut:]):
        chunked.update(truth[part], forecast[part], 3.0)
    assert chunked.result() == scored(truth, forecast, 3.0)


def test_any_shape():
    truth, forecast = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    assert scored(truth, forecast) == scored(truth.ravel(), forecast.ravel())


def test_each_series_has_its_own_scale():
    metric = Forecast()
    metric.update(np.array([1.0]), np.array([2.0]), 1.0)
    metric.update(np.array([100.0]), np.array([200.0]), 100.0)
    assert metric.result()["mase"] == 1


def test_nothing_added_is_nan():
    assert all(math.isnan(value) for value in Forecast().result().values())


def test_a_forecast_that_ran_away():
    assert scored([0, 0], [1e308, 1e308])["mae"] == math.inf
    result = scored([1, 1], [1, math.inf])
    assert result["mae"] == result["rmse"] == math.inf
    assert all(math.isnan(value) for value in scored([1, 1], [1, math.nan]).values())


def test_seasonal_scale_by_hand():
    assert seasonal_scale(np.array([1.0, 2.0, 4.0, 8.0]), 1) == (1 + 2 + 4) / 3
    assert seasonal_scale(np.array([1.0, 2.0, 4.0, 8.0]), 2) == (3 + 6) / 2


def test_seasonal_scale_where_there_is_none():
    assert seasonal_scale(np.array([1.0, 3.0]), 12) == 2, "shorter than a season: the last value"
    assert seasonal_scale(np.array([1.0, 2.0, 1.0, 2.0]), 2) == 1, "a perfect season: errors count as they are"
    assert seasonal_scale(np.array([1.0]), 1) == 1
