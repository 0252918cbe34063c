"""A forecast that is fed back carries its errors on: how they grow is told by the Lipschitz constant of the model.

|e[k+1]| <= L |e[k]| + e   gives   |e[H]| <= e (L^H - 1) / (L - 1),  H e at L = 1

Below L = 1 old errors decay and the bound saturates at e / (1 - L); at 1 it is linear; above it is exponential. A
direct forecast of step H makes one error, e, whatever H is. A linear model that errs by e always the same way attains
the bound; one that bends (L tanh x) stays below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clew.diagnose.draw import plot
from clew.forecast import iterate
from clew.lab.base import Finding, Outcome, within

CLAIM = "L13"
ERROR, HORIZON = 0.01, 40
LIPSCHITZ = (0.8, 0.95, 1.0, 1.05, 1.2)


class Map:
    """A model of x[t+1] = f(x[t]) that is off by `error` at each step, as what `iterate` feeds its own predictions."""

    def __init__(self, f: Callable[[Tensor], Tensor], error: float) -> None:
        self.f, self.error, self.body = f, error, self
        self.input_size = 1

    def step(self, x_BI: Tensor, state: tuple = ()) -> tuple[Tensor, tuple]:
        return (self.f(x_BI) + self.error)[:, None], state


def growth(f: Callable[[Tensor], Tensor], start: float, steps: int = HORIZON) -> list[float]:
    """How far a forecast from `start` is from what comes, 1 to so many steps ahead."""
    x = torch.full((1, 1), start, dtype=torch.float64)
    ways = [iterate(Map(f, e), *Map(f, e).step(x), steps)[0][0, :, 0] for e in (0.0, ERROR)]  # pyright: ignore
    return (ways[1] - ways[0]).abs().tolist()


def bound(L: float, H: int) -> float:
    return ERROR * H if L == 1 else ERROR * (L**H - 1) / (L - 1)


def run(quick: bool = False) -> Outcome:
    findings, measured = [], {}
    for L in LIPSCHITZ:
        linear = measured[L] = growth(lambda x, L=L: L * x, 0.3)
        findings.append(Finding(f"linear, L = {L}: error after {HORIZON} steps", linear[-1], bound(L, HORIZON), 1e-9))
        bent = growth(lambda x, L=L: L * torch.tanh(x), 0.3)
        findings.append(within(f"bent, L = {L}: error beside that bound", bent[-1] / bound(L, HORIZON), 0.0, 1.0))
    saturated = growth(lambda x: 0.8 * x, 0.3, 10 * HORIZON)[-1]
    findings.append(Finding("L = 0.8: where the error ends", saturated, ERROR / (1 - 0.8), 1e-9))
    late = math.log(measured[1.2][-1] / measured[1.2][-11]) / 10
    findings.append(Finding("exponential for L = 1.2: rate a step", late, math.log(1.2), 0.01 * math.log(1.2)))
    return Outcome(tuple(findings), {"errors": measured})


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    ahead = list(range(1, HORIZON + 1))
    curves = {f"fed back, L = {L}": (ahead, errors) for L, errors in shown["errors"].items()}
    plot(figure.subplots(), {**curves, "direct": (ahead, [ERROR] * HORIZON)}, "steps ahead", "error", log="y")
