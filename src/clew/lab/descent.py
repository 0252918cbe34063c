"""Small models that learn while one waits: what several experiments train by."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


def descend(
    parameters: Iterable[nn.Parameter], loss: Callable[[], Tensor], steps: int, lr: float = 1e-2, decay: float = 0.0
) -> list[float]:
    """Lower `loss`, asked anew at each step, by Adam with a rate that falls to 0 and gradients of norm 1 at most.

    Args:
        decay: AdamW's weight decay.

    Returns:
        the loss of each step.
    """
    wanted = list(parameters)
    optimiser = torch.optim.AdamW(wanted, lr=lr, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(wanted, 1.0)
        optimiser.step()
        schedule.step()
        losses.append(float(value.detach()))
    return losses
