"""A Hopfield network recalls what it has stored, up to about 0.138 patterns a unit, and then nothing at all.

W = (1/N) sum over patterns of p p' without its diagonal;  s[t+1] = sign(W s[t]), or tanh(b W s[t])

(Hopfield 1982, PNAS 79(8); units of continuous value: Hopfield 1984, PNAS 81(10). The capacity: Amit, Gutfreund &
Sompolinsky 1985, Phys. Rev. Lett. 55(14).) Measured: the load P/N at which the mean overlap of what is recalled with
what was stored falls under 0.95, from the stored pattern on.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from matplotlib.figure import Figure

from clew.cells.hopfield import Hopfield
from clew.diagnose.draw import plot
from clew.lab.base import Outcome, within

CLAIM = "L18"
OVERLAP = 0.95


def overlaps(N: int, load: float, gain: float, steps: int, seed: int) -> float:
    """The mean overlap of what is recalled with what was stored: 1 where all is right."""
    draws = torch.Generator().manual_seed(seed)
    patterns_PN = torch.randint(2, (round(load * N), N), generator=draws).float() * 2 - 1
    net = Hopfield.storing(patterns_PN, gain=gain)
    return float((net.recall(patterns_PN, steps).sign() * patterns_PN).mean())


def capacity(loads: list[float], means: list[float]) -> float:
    """The load at which the mean overlap falls under 0.95, between two of those tried."""
    for (low, above), (high, below) in pairwise(zip(loads, means, strict=True)):
        if above >= OVERLAP > below:
            return low + (high - low) * (above - OVERLAP) / (above - below)
    return float("nan")


def run(quick: bool = False) -> Outcome:
    N, steps, seeds = (500, 60, 1) if quick else (1000, 100, 3)
    loads = [0.08, 0.1, 0.12, 0.13, 0.14, 0.15, 0.16, 0.18]
    curves, findings = {}, []
    for name, gain in (("two values", 0.0), ("continuous values", 10.0)):
        means = [sum(overlaps(N, load, gain, steps, seed) for seed in range(seeds)) / seeds for load in loads]
        curves[name] = (loads, means)
        findings.append(within(f"{name}: capacity, patterns a unit", capacity(loads, means), 0.12, 0.15))
    return Outcome(tuple(findings), curves)


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    axes = figure.subplots()
    plot(axes, shown, "patterns a unit", "mean overlap of what is recalled", marks=True)
    axes.axhline(OVERLAP, color="#999999", lw=0.6)
    axes.axvline(0.138, color="#999999", lw=0.6)
