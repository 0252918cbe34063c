"""Metrics as exact accumulators, in the data's own units."""

from clew.metrics.classes import Classes
from clew.metrics.edits import Edits, edit_distance
from clew.metrics.events import Events
from clew.metrics.forecast import Forecast, seasonal_scale
from clew.metrics.numbers import Numbers
from clew.metrics.sequences import Sequences
from clew.metrics.sets import MatchedSets, NamedSets
from clew.metrics.tags import Tags
from clew.metrics.tokens import Tokens, unigram
from clew.metrics.tours import length_ratio, tour_length

HIGHER_IS_BETTER = ("accuracy", "macro_f1", "f1", "r2", "bleu", "chrf", "exact", "auc", "precision", "recall")

__all__ = [
    "HIGHER_IS_BETTER",
    "Classes",
    "Edits",
    "Events",
    "Forecast",
    "MatchedSets",
    "NamedSets",
    "Numbers",
    "Sequences",
    "Tags",
    "Tokens",
    "edit_distance",
    "length_ratio",
    "seasonal_scale",
    "tour_length",
    "unigram",
]
