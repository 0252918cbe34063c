"""Forecasts of H steps from a state, from `step` alone.

iterate   a one-step model fed its own predictions (errors feed back: bound e (L^H - 1) / (L - 1))
direct    a model that gives all H steps at once from the last state

B batch, H horizon, N target columns, C columns; a model's prediction at a step is (B, K, N)
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from clew.errors import NotCausalError, ShapeError
from clew.models import Single
from clew.tree import State

Numbers = TypeVar("Numbers", Tensor, np.ndarray)


def iterate(model: Single, prediction_BKN: Tensor, state: State, horizon: int) -> tuple[Tensor, State]:
    """Feed a one-step model its own predictions.

    Args:
        prediction_BKN: the model's prediction at the last known step, K = 1, of every column that it reads.
        state: the state after that step; it is left as it is, the stream can go on from it.

    Returns:
        forecasts (B, H, N) and the state after the last prediction was read.

    Raises:
        ShapeError: the model does not predict all that it reads, so it cannot feed itself.
    """
    causal(model)
    if prediction_BKN.shape[1] != 1 or prediction_BKN.shape[2] != model.body.input_size:
        raise ShapeError(
            f"an iterative forecast feeds the model its own predictions: it must predict 1 step of"
            f" {model.body.input_size} columns, got {prediction_BKN.shape[1]} of {prediction_BKN.shape[2]}"
        )
    steps = [prediction_BKN]
    for _ in range(horizon - 1):
        prediction_BKN, state = model.step(steps[-1][:, 0], state)
        steps.append(prediction_BKN)
    return torch.cat(steps, 1), state


def direct(prediction_BKN: Numbers, horizon: int) -> Numbers:
    """The first H of the K steps that the model gave at once: (B, H, N).

    Raises:
        ShapeError: H is more than K.
    """
    if horizon > prediction_BKN.shape[1]:
        raise ShapeError(f"the model forecasts {prediction_BKN.shape[1]} steps at once, not {horizon}")
    return prediction_BKN[:, :horizon]


def causal(model: Single) -> None:
    """Raise NotCausalError unless the model can go on step by step."""
    if not hasattr(model.body, "step"):
        raise NotCausalError(
            f"{type(model.body).__name__} needs the future, so it cannot stream or feed itself",
            hint="train without bidirectional layers",
        )
