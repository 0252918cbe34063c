"""Forecasts from a state, the naive ones to beat, and how both are tried on a series."""

from clew.forecast.backtest import rolling_origin
from clew.forecast.baselines import BASELINES, last_value, seasonal_naive
from clew.forecast.rollout import direct, iterate

__all__ = ["BASELINES", "direct", "iterate", "last_value", "rolling_origin", "seasonal_naive"]
