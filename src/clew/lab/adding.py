"""A plain recurrent network fails where something has to be remembered for long, and gated ones do not.

The adding problem: the sum of two marked numbers among T (Hochreiter & Schmidhuber 1997, Neural Computation 9(8),
section 5.4). Who remembers nothing has a mean squared error of 1/6. Copying: a symbol somewhere among T steps of noise,
asked for when all is read (in the form of Gu & Dao 2023, arXiv:2312.00752, section 4.1.1). Who guesses is right once in
as many times as there are symbols.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from clew.cells import RECURRENCES
from clew.data.synthetic import adding, selective_copying
from clew.diagnose.draw import plot
from clew.lab.base import Outcome, within
from clew.lab.descent import descend

CLAIM = "L4"
NOTHING = 1 / 6  # the error of who remembers nothing
WIDTH, SYMBOLS = 32, 8


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


def copied(cell: str, length: int, steps: int) -> float:
    """The share of symbols that are given rightly after training."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    body, head = RECURRENCES[cell](SYMBOLS + 2, WIDTH), nn.Linear(WIDTH, SYMBOLS + 2)

    def last(B: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x_BT, y_BT = selective_copying(B, length, 1, SYMBOLS + 2, generator)
        return head(body(F.one_hot(x_BT, SYMBOLS + 2).float())[0][:, -1]), y_BT[:, -1]

    descend([*body.parameters(), *head.parameters()], lambda: F.cross_entropy(*last(32, draws)), steps)
    with torch.no_grad():
        said_BK, true_B = last(2000, torch.Generator().manual_seed(99))
        return float((said_BK.argmax(-1) == true_B).float().mean())


def run(quick: bool = False) -> Outcome:
    lengths, steps = ((30,), 400) if quick else ((10, 30, 100), 1200)
    cells = ("elman", "gru") if quick else ("elman", "lstm", "gru")
    errors = {cell: (lengths, [error(cell, T, steps) for T in lengths]) for cell in cells}
    findings = [
        within(f"elman, {lengths[-1]} steps: error beside remembering nothing", errors["elman"][1][-1], 0.5, 1.5)
    ]
    findings += [within(f"{cell}, {lengths[-1]} steps", errors[cell][1][-1], 0.0, 0.15) for cell in cells[1:]]
    far, less = (20, 160) if quick else (60, 800)
    shares = {cell: copied(cell, far, less) for cell in cells}
    findings.append(within(f"elman, {far} steps: copied rightly", shares["elman"], 0.0, 0.6))
    findings += [within(f"{cell}, {far} steps: copied rightly", shares[cell], 0.9, 1.0) for cell in cells[1:]]
    return Outcome(tuple(findings), {"errors": errors, "copied": shares})


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    left, right = figure.subplots(1, 2)
    plot(left, shown["errors"], "steps", "error beside remembering nothing", log="y", marks=True)
    left.axhline(1.0, color="#999999", lw=0.8)
    right.bar(list(shown["copied"]), list(shown["copied"].values()), color="#0b62a4", width=0.6)
    right.axhline(1 / SYMBOLS, color="#999999", lw=0.8)
    right.set_ylabel("symbols copied rightly")
    right.spines[["top", "right"]].set_visible(False)
