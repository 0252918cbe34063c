"""Training: the loop, its optimizer, checkpoints that survive anything, and atomic files."""

from clew.training.checkpoint import load_weights, save_weights
from clew.training.files import read_json, write_atomic
from clew.training.loop import Batches, Fitted, Settings, fit
from clew.training.optim import make_optimizer, rate
from clew.training.timing import steps_within

__all__ = [
    "Batches",
    "Fitted",
    "Settings",
    "fit",
    "load_weights",
    "make_optimizer",
    "rate",
    "read_json",
    "save_weights",
    "steps_within",
    "write_atomic",
]
