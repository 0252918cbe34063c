"""Metrics as exact accumulators, in the data's own units."""

from clew.metrics.classes import Classes
from clew.metrics.forecast import Forecast, seasonal_scale
from clew.metrics.numbers import Numbers
from clew.metrics.tags import Tags
from clew.metrics.tokens import Tokens, unigram

__all__ = ["Classes", "Forecast", "Numbers", "Tags", "Tokens", "seasonal_scale", "unigram"]
