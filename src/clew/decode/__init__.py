"""Decoding: from predictions, one step at a time, to sequences.

All of it takes what `Predictor` says and nothing more: the prediction from which the first unit is chosen, the state
after it was made, and `step`.
"""

from clew.decode.forced import teacher_forced
from clew.decode.penalty import covered, per_unit, wu
from clew.decode.pool import Hypothesis
from clew.decode.predictor import Predictor
from clew.decode.sampling import choose, greedy, sample
from clew.decode.search import beam

__all__ = [
    "Hypothesis",
    "Predictor",
    "beam",
    "choose",
    "covered",
    "greedy",
    "per_unit",
    "sample",
    "teacher_forced",
    "wu",
]
