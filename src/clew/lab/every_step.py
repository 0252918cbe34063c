"""With a loss at every step, the gradients of a linear recurrence add up: to a bound below |a| = 1, without one above.

h[t] = a h[t-1],  L = sum over k of h[k]^2 / 2   gives   dL/dh[1] = h[1] sum over k of a^(2 (k-1))
                                                                  = h[1] (1 - a^(2T)) / (1 - a^2),  T at |a| = 1

For |a| < 1 it converges to 1 / (1 - a^2), however long the sequence is; for |a| >= 1 it grows without bound, and more
severely than with a loss at the last step alone: T times as large at |a| = 1, and 1 / (1 - a^-2) times above it.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from clew.diagnose.draw import plot
from clew.lab.base import Finding, Outcome
from clew.lab.last_step import gradient

CLAIM = "L2"
DECAYS = (0.5, 0.9, 0.99, 1.0, 1.01, 1.05)
T = 200
RELATIVE = 1e-6


def closed(a: float, steps: int) -> float:
    """The sum, in closed form."""
    return float(steps) if abs(a) == 1 else (1 - a ** (2 * steps)) / (1 - a * a)


def run(quick: bool = False) -> Outcome:
    findings = [close(f"sum over {T} steps at a = {a}", gradient(a, T, every=True), closed(a, T)) for a in DECAYS]
    findings.append(close("limit at a = 0.9", gradient(0.9, 4 * T, every=True), 1 / (1 - 0.81)))
    for a in (1.0, 1.05):
        expected = closed(a, T) / a ** (2 * (T - 1))
        ratio = gradient(a, T, every=True) / gradient(a, T)
        findings.append(close(f"every step beside the last alone, a = {a}", ratio, expected))
    lengths = list(range(2, T + 1, 20 if quick else 4))
    sums = {a: [gradient(a, n, every=True) for n in lengths] for a in DECAYS}
    return Outcome(tuple(findings), {"lengths": lengths, "sums": sums})


def close(name: str, measured: float, expected: float) -> Finding:
    return Finding(name, measured, expected, RELATIVE * expected)


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    axes = figure.subplots()
    plot(
        axes, {f"a = {a}": (shown["lengths"], found) for a, found in shown["sums"].items()}, "T", "dL / dh[1]", log="y"
    )
    for a in (a for a in shown["sums"] if a < 1):
        axes.axhline(1 / (1 - a * a), color="#999999", lw=0.6)
