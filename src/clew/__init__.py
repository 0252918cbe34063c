"""Clew: from your own sequences to a recurrent model that runs as a constant-memory stream."""

from clew import cells, nn, ops, tree
from clew.diagnose.laws import check
from clew.errors import ClewError

__version__ = "0.1.0"
__all__ = ["ClewError", "cells", "check", "nn", "ops", "tree"]
