"""Exact accumulators of metrics: any chunking of the updates gives the same result."""

from clew.metrics.forecast import Forecast, seasonal_scale

__all__ = ["Forecast", "seasonal_scale"]
