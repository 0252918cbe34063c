"""A bidirectional network whose targets need no future, or that is not shown it, stops using its backward pass.

y[t] = g(W_f f[t] + W_b b[t]): where the target is causal, or b[t] is masked at every step in training, W_b has nothing
to gain, and what it adds is noise that training takes away; where the target is the step to come, only b[t] knows it
(Schuster & Paliwal 1997, IEEE Trans. Signal Processing 45). Masking part of the steps lies between.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from clew.cells import GRU, Bidirectional
from clew.diagnose.draw import plot
from clew.lab.base import Finding, Outcome, within
from clew.lab.descent import descend

CLAIM = "L9"
WIDTH, T, KINDS = 12, 12, 4


def share(rate: float, ahead: int, steps: int) -> float:
    """The backward pass's part of what the scores vary by, after training with future masking at this rate.

    Args:
        ahead: what is asked for is the symbol so many steps later.
    """
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    body = Bidirectional(GRU(KINDS, WIDTH), GRU(KINDS, WIDTH), mask_future=rate)
    readout = nn.Linear(body.output_size, KINDS)

    def loss() -> Tensor:
        x_BT = torch.randint(KINDS, (32, T), generator=draws)
        y_BTK = readout(body(F.one_hot(x_BT, KINDS).float())[0])
        rolled_BT = x_BT.roll(-ahead, 1)
        inside = slice(max(0, -ahead), T - max(0, ahead))
        return F.cross_entropy(y_BTK[:, inside].flatten(0, 1), rolled_BT[:, inside].flatten())

    descend([*body.parameters(), *readout.parameters()], loss, steps, lr=1e-2, decay=0.1)
    x_BT = torch.randint(KINDS, (200, T), generator=torch.Generator().manual_seed(99))
    with torch.no_grad():
        halves = body.eval()(F.one_hot(x_BT, KINDS).float())[0].split(WIDTH, -1)
        f, b = (half @ w.T for half, w in zip(halves, readout.weight.split(WIDTH, 1), strict=True))
        vary_f, vary_b = (part.flatten(0, 1).var(0).sum() for part in (f, b))
    return float(vary_b / (vary_f + vary_b))


def pull(rate: float) -> float:
    """The norm of the gradient of the backward pass and of what reads it, where the target is the step to come."""
    torch.manual_seed(0)
    body = Bidirectional(GRU(KINDS, WIDTH), GRU(KINDS, WIDTH), mask_future=rate)
    readout = nn.Linear(body.output_size, KINDS)
    x_BT = torch.randint(KINDS, (32, T))
    y_BTK = readout(body(F.one_hot(x_BT, KINDS).float())[0])
    loss = F.cross_entropy(y_BTK[:, :-1].flatten(0, 1), x_BT[:, 1:].flatten())
    *passing, read = torch.autograd.grad(loss, [*body.backwards.parameters(), readout.weight])
    return float(torch.stack([g.norm() for g in [*passing, read[:, WIDTH:]]]).norm())


def run(quick: bool = False) -> Outcome:
    steps = 150 if quick else 800
    rates = (0.0, 1.0) if quick else (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
    causal, future = ([share(rate, ahead, steps) for rate in rates] for ahead in (-1, 1))
    findings = (
        within("target of the past, nothing masked", causal[0], 0.0, 0.2),
        within("target of the future, nothing masked", future[0], 0.8, 1.0),
        within("target of the future, nothing masked: gradient of the backward pass", pull(0.0), 0.01, 10.0),
        Finding("target of the future, all masked: gradient of the backward pass", pull(1.0), 0.0, 0.0),
    )
    return Outcome(findings, {"target of the past": (rates, causal), "target of the future": (rates, future)})


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    plot(figure.subplots(), shown, "rate of masking", "backward pass's part of the variance of scores", marks=True)
