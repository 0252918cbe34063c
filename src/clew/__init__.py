"""Clew: from your own sequences to a recurrent model that runs as a constant-memory stream."""

from clew import cells, diagnose, forecast, nn, ops, stream, tree
from clew.diagnose.laws import check
from clew.errors import ClewError
from clew.tasks import evaluate, load, train

__version__ = "0.1.0"
__all__ = [
    "ClewError",
    "cells",
    "check",
    "diagnose",
    "evaluate",
    "forecast",
    "load",
    "nn",
    "ops",
    "stream",
    "train",
    "tree",
]
