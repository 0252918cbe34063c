"""A GRU has three quarters of an LSTM's weights: three gates' worth of matrices beside four.

LSTM 4 (I H + H H + 2 H),  GRU 3 (I H + H H + 2 H)                         (Cho et al. 2014, arXiv:1406.1078)
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from clew.cells import GRU, LSTM, Elman
from clew.diagnose.draw import plot
from clew.lab.base import Finding, Outcome

CLAIM = "L16"
SIZES = ((1, 8), (16, 16), (40, 128), (300, 64), (128, 512))
KINDS = {"elman": Elman, "gru": GRU, "lstm": LSTM}


def count(kind: type, inputs: int, hidden: int) -> int:
    return sum(p.numel() for p in kind(inputs, hidden).parameters())


def run(quick: bool = False) -> Outcome:
    findings = [
        Finding(f"{inputs} inputs, {hidden} units", count(GRU, inputs, hidden) / count(LSTM, inputs, hidden), 0.75, 0.0)
        for inputs, hidden in SIZES
    ]
    widths = [8, 16, 32, 64, 128, 256]
    counts = {name: (widths, [count(kind, 64, width) for width in widths]) for name, kind in KINDS.items()}
    return Outcome(tuple(findings), {"counts": counts})


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    plot(figure.subplots(), shown["counts"], "units, of 64 inputs", "parameters", log="xy", marks=True)
