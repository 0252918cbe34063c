"""What a series asks for, forecasts from a state, the naive ones to beat, and how both are tried."""

from clew.forecast.backtest import rolling_origin
from clew.forecast.baselines import BASELINES, last_value, seasonal_naive
from clew.forecast.plan import Plan, held_out_fractions, make_plan
from clew.forecast.rollout import direct, iterate

__all__ = [
    "BASELINES",
    "Plan",
    "direct",
    "held_out_fractions",
    "iterate",
    "last_value",
    "make_plan",
    "rolling_origin",
    "seasonal_naive",
]
