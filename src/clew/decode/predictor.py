"""What is decoded: anything that, given the last unit, predicts the next.

B rows, V units
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from clew import tree
from clew.errors import ConfigError, ShapeError
from clew.tree import State

ROUNDING = 1e-3  # how far above 0 a log-probability may lie that was added up in low precision


class Predictor(Protocol):
    """A model of sequences of units, one step at a time. `models.Single` over units is one."""

    def step(self, x_B1: Tensor, state: State, context: State | None = None, /) -> tuple[Tensor, State]:
        """Log-probabilities (B, V) of what follows the units (B, 1), whole numbers, and the next state.

        A log-probability may be -inf. State and context have the batch as dimension 0 of every leaf.
        """
        ...


def check_start(logp_BV: Tensor, state: State, context: State | None = None) -> None:
    """Raise ShapeError unless the first prediction, the state and the context are those of the same rows."""
    if logp_BV.ndim != 2 or not logp_BV.is_floating_point():
        raise ShapeError(f"log-probabilities must be floating (batch, units), got {logp_BV.dtype} {_shape(logp_BV)}")
    if not logp_BV.shape[1]:
        raise ShapeError("the vocabulary is empty: log-probabilities are (batch, 0)", hint="predict at least one unit")
    for name, part in (("state", state), ("context", context)):
        rows = None if part is None else tree.rows(part)
        if rows is not None and rows != len(logp_BV):
            raise ShapeError(f"the prediction has {len(logp_BV)} rows, the {name} has {rows}")


def check_step(logp: Tensor, rows: int, units: int) -> Tensor:
    """What a model's step predicted, or ShapeError where it has another shape than (rows, units)."""
    if logp.shape != (rows, units):
        raise ShapeError(
            f"the model's step predicted {_shape(logp)} for {rows} rows of {units} units",
            hint="step takes units (batch, 1) and gives log-probabilities (batch, units)",
        )
    return logp


def check_largest(logp: Tensor) -> Tensor:
    """Log-probabilities, those that rounding has lifted over 0 lowered to it. The largest of each row will do.

    Raises:
        ConfigError: one is NaN or clearly over 0.
    """
    if not bool((logp <= ROUNDING).all()):  # which NaN is not
        if bool(logp.isnan().any()):
            raise ConfigError("the model predicted NaN", hint="look at its weights, its inputs and its state")
        raise ConfigError("the model predicted a log-probability over 0", hint="apply log_softmax to its scores")
    return logp.clamp(max=0.0)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
