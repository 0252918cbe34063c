"""Rolling origin: forecast from every point of a tail, each time from all that came before it (Tashman 2000).

T time, C columns, O origins, H horizon, N target columns
"""

from __future__ import annotations

import torch
from torch import Tensor

from clew import tree
from clew.forecast.rollout import causal, direct, iterate
from clew.models import Single


@torch.no_grad()
def rolling_origin(
    model: Single, series_TC: Tensor, first: int, horizon: int, *, iterative: bool, stride: int = 1
) -> Tensor:
    """Forecast `horizon` steps from every origin: the steps first, first + stride, ... with `horizon` steps left.

    The series is read once: the state at each origin is kept, and all origins are rolled out as one batch.

    Args:
        series_TC: the scaled series.
        first: the first step to be forecast; the origin's last known step is first - 1, so at least 1.

    Returns:
        forecasts (O, H, N); forecast o covers the steps first + o stride .. first + o stride + H - 1.
    """
    causal(model)
    assert 1 <= first <= len(series_TC) - horizon, "no origin in the series"
    was_training = model.training
    model.eval()
    prediction, state = model(series_TC[None, :first])
    predictions, states = [prediction[:, -1]], [state]
    for origin in range(first + stride, len(series_TC) - horizon + 1, stride):
        prediction, state = model(series_TC[None, origin - stride : origin], state)
        predictions.append(prediction[:, -1])
        states.append(state)
    model.train(was_training)
    if not iterative:
        return direct(torch.cat(predictions), horizon)
    return iterate(model, torch.cat(predictions), tree.stack(states), horizon)[0]
