"""With a loss at the last step alone, the gradient of a linear recurrence vanishes or explodes with the length.

h[t] = a h[t-1],  L = h[T]^2 / 2   gives   dL/dh[1] = a^(2 (T-1)) h[1]

So the logarithm of the gradient is a straight line in T whose slope is 2 ln |a|: below |a| = 1 it vanishes, above it
explodes (Bengio, Simard & Frasconi 1994, IEEE Trans. Neural Networks 5(2); Pascanu, Mikolov & Bengio 2013,
arXiv:1211.5063).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib.figure import Figure

from clew import ops
from clew.diagnose.draw import plot
from clew.lab.base import Finding, Outcome, slope

CLAIM = "L1"
DECAYS = (0.5, 0.9, -0.9, 0.99, 1.0, 1.05, 1.2)
LONGEST = 60


def gradient(a: float, T: int, every: bool = False) -> float:
    """dL/dh[1] at h[1] = 1, with a loss at the last of T steps, or at every one, by backpropagation through time."""
    h_11 = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    decay_1T1 = torch.full((1, T - 1, 1), a, dtype=torch.float64)
    h_1T1, last_11 = ops.linear_scan(decay_1T1, torch.zeros_like(decay_1T1), h_11, initial=h_11)
    states = torch.cat([h_11[:, None], h_1T1], 1) if every else last_11
    return float(torch.autograd.grad(0.5 * states.square().sum(), h_11)[0])


def run(quick: bool = False) -> Outcome:
    lengths = list(range(2, LONGEST + 1, 4 if quick else 1))
    gradients = {a: [gradient(a, T) for T in lengths] for a in DECAYS}
    findings = []
    for a, found in gradients.items():
        expected = 2 * math.log(abs(a))
        measured = slope(lengths, [math.log(g) for g in found])
        findings.append(Finding(f"slope at a = {a}", measured, expected, 0.01 * abs(expected) + 1e-12))
    return Outcome(tuple(findings), {"lengths": lengths, "gradients": gradients})


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    curves = {f"a = {a}": (shown["lengths"], found) for a, found in shown["gradients"].items()}
    plot(figure.subplots(), curves, "T, steps", "dL / dh[1]", log="y")
