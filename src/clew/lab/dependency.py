"""How far back data reach can be measured, and it says how far back to train.

I(d) = I(x[t-d]; x[t]), fitted by I0 exp(-l d), falls under the share e of I0 at K = ln(1/e) / l. Of a coin that is
turned with probability p, whose correlation is r = 1 - 2 p a step, I(d) = ln 2 - H((1 - r^d) / 2), which goes as
r^(2d) / 2: so l = -2 ln r.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from clew.diagnose.draw import plot
from clew.diagnose.information import dependency
from clew.lab.base import Finding, Outcome

CLAIM = "L5"
SHARE = 0.01


def coin(r: float, n: int, seed: int) -> np.ndarray:
    """n steps of 0 and 1 whose correlation falls by the factor r a step."""
    turns = np.random.default_rng(seed).random(n) < (1 - r) / 2
    return np.cumsum(turns) % 2


def exact(r: float, d: int) -> float:
    """I(d) in nats, in closed form."""
    p = (1 - r**d) / 2
    return math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p)


def run(quick: bool = False) -> Outcome:
    findings, shown, n = [], {}, 200_000 if quick else 2_000_000
    for r in (0.8, 0.9, 0.95):
        found = dependency(coin(r, n, 0), most=80)
        rate = -2 * math.log(r)
        horizon = math.log(1 / SHARE) / rate
        findings.append(Finding(f"r = {r}: rate of the fit", found.rate, rate, 0.1 * rate))
        findings.append(Finding(f"r = {r}: K", found.horizon(SHARE), horizon, 0.1 * horizon))
        left, closed = found.nats[round(horizon) - 1], exact(r, round(horizon))
        findings.append(Finding(f"r = {r}: I(K) itself, nats", left, closed, 0.3 * closed))
        shown[r] = (found.nats, [exact(r, d) for d in range(1, 81)], horizon)
    return Outcome(tuple(findings), shown)


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    curves, lags = {}, list(range(1, 81))
    for r, (measured, closed, _) in shown.items():
        curves[f"r = {r}, measured"] = (lags, measured)
        curves[f"r = {r}, exact"] = (lags, closed)
    axes = figure.subplots()
    plot(axes, curves, "lag d, steps", "I(d), nats", log="y")
    axes.set_ylim(1e-6, 1)
