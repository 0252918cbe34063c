"""A forget gate is a leaky integrator: what it keeps of a step falls by a factor of e in -dt / ln f seconds.

c[t] = f c[t-1] + ...: f^k = e^(-k dt / tau) with tau = -dt / ln f; to first order dt / (1 - f). At 50 Hz f = 0.95 is a
time constant of 0.390 s (Tallec & Ollivier 2018, arXiv:1804.11188, section 1).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clew.cells import LSTM
from clew.diagnose.draw import plot
from clew.lab.base import Finding, Outcome, slope
from clew.lab.descent import descend

CLAIM = "L15"
KEPT, DT = 0.95, 1 / 50
TAU = -DT / math.log(KEPT)


def impulse(cell: LSTM, readout: nn.Linear, T: int, height: float = 0.1) -> list[float]:
    """What is left of one input in the output, at each of T steps after it."""
    x_2T1 = torch.zeros(2, T, 1)
    x_2T1[0, 0] = height
    with torch.no_grad():
        y_2T = readout(cell(x_2T1)[0])[..., 0]
    return (y_2T[0] - y_2T[1]).tolist()


def constant(left: list[float], first: int, last: int) -> float:
    """The time constant in seconds of what falls as an exponential between these steps."""
    steps = list(range(first, last))
    return -DT / slope(steps, [math.log(max(abs(left[t]), 1e-12)) for t in steps])


def built() -> LSTM:
    """An LSTM of one unit whose gates do not move: f = 0.95, the others 1/2."""
    cell = LSTM(1, 1)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.weight_ih[2] = 0.1  # the candidate's
        assert cell.bias_ih is not None
        cell.bias_ih[1] = math.log(KEPT / (1 - KEPT))
    return cell


def learned(steps: int) -> tuple[LSTM, nn.Linear]:
    """One that has learned y[t] = f y[t-1] + (1 - f) x[t] from examples."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    cell, readout = LSTM(1, 4, forget_bias=2.0), nn.Linear(4, 1)
    weights_T = (1 - KEPT) * KEPT ** torch.arange(100.0)

    def loss() -> Tensor:
        x_BT = torch.randn(16, 100, generator=draws)
        kernel = torch.stack([weights_T.roll(t) * (torch.arange(100) >= t) for t in range(100)])
        y_BT = x_BT @ kernel
        return (readout(cell(x_BT[..., None])[0])[..., 0] - y_BT).square().mean() * 100

    descend([*cell.parameters(), *readout.parameters()], loss, steps)
    return cell, readout


def run(quick: bool = False) -> Outcome:
    identity = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        identity.weight.fill_(1.0)
    made = impulse(built(), identity, 80, height=0.01)
    cell, readout = learned(400 if quick else 1500)
    found = impulse(cell, readout, 80)
    findings = (
        Finding("time constant of f = 0.95 at 50 Hz, seconds", constant(made, 1, 60), TAU, 0.001),
        Finding("learned from examples of it, seconds", constant(found, 1, 25), TAU, 0.15 * TAU),
    )
    return Outcome(findings, {"built": made, "learned": found})


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    seconds = [DT * t for t in range(80)]
    curves = {name: (seconds, [abs(v / values[1]) for v in values]) for name, values in shown.items()}
    curves["exp(-t / 0.390 s)"] = (seconds, [math.exp(-(t - DT) / TAU) for t in seconds])
    axes = figure.subplots()
    plot(axes, curves, "seconds after an input", "what is left of it", log="y")
    axes.set_ylim(1e-2, 2)
