"""A model as a stream: one step in, one prediction out, a state of constant size between them."""

from clew.stream.batcher import Batcher
from clew.stream.session import Session
from clew.stream.stepper import Stepper

__all__ = ["Batcher", "Session", "Stepper"]
