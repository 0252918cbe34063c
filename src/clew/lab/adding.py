"""A plain recurrent network fails where something has to be remembered for long, and gated ones do not.

The adding problem: the sum of two marked numbers among T (Hochreiter & Schmidhuber 1997, Neural Computation 9(8),
section 5.4). Who remembers nothing has a mean squared error of 1/6. Copying: symbols among noise, to be given in order
when all is read (Gu & Dao 2023, arXiv:2312.00752, section 4.1.1).
"""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clew.cells import RECURRENCES
from clew.data.synthetic import adding
from clew.diagnose.draw import plot
from clew.lab.base import Outcome, within
from clew.lab.descent import descend

CLAIM = "L4"
NOTHING = 1 / 6  # the error of who remembers nothing
WIDTH = 32


def error(cell: str, length: int, steps: int) -> float:
    """The mean squared error after training, beside that of who remembers nothing."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    body, head = RECURRENCES[cell](2, WIDTH), nn.Linear(WIDTH, 1)

    def loss() -> Tensor:
        x_BTI, y_B1 = adding(32, length, draws)
        return (head(body(x_BTI)[0][:, -1]) - y_B1).square().mean()

    descend([*body.parameters(), *head.parameters()], loss, steps)
    x_BTI, y_B1 = adding(2000, length, torch.Generator().manual_seed(99))
    with torch.no_grad():
        return float((head(body(x_BTI)[0][:, -1]) - y_B1).square().mean()) / NOTHING


def run(quick: bool = False) -> Outcome:
    lengths, steps = ((30,), 500) if quick else ((10, 30, 60, 100), 1500)
    cells = ("elman", "gru") if quick else ("elman", "lstm", "gru")
    errors = {cell: (lengths, [error(cell, T, steps) for T in lengths]) for cell in cells}
    findings = [
        within(f"elman, {lengths[-1]} steps: error beside remembering nothing", errors["elman"][1][-1], 0.5, 1.5)
    ]
    findings += [within(f"{cell}, {lengths[-1]} steps", errors[cell][1][-1], 0.0, 0.15) for cell in cells[1:]]
    return Outcome(tuple(findings), {"errors": errors})


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    axes = figure.subplots()
    plot(axes, shown["errors"], "steps", "error beside remembering nothing", log="y", marks=True)
    axes.axhline(1.0, color="#999999", lw=0.8)
