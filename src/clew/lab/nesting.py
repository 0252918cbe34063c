"""With a stack a network follows nested brackets deeper and longer than any it has seen; without one it does not.

Balanced brackets of two kinds (Dyck-2) need a memory that grows with the depth: a stack that is pushed and popped
softly learns it (Joulin & Mikolov 2015, arXiv:1503.01007). One kind can be solved by counting, which a gated network
can do by itself; a regular language (is the number of ones odd?) needs two states, and is the control that all solve.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from clew.cells import GRU, Elman, Pointwise, Recurrence, StackMemory
from clew.data.brackets import brackets, parity
from clew.data.synthetic import UNSCORED
from clew.diagnose.draw import plot
from clew.lab.base import Outcome, within
from clew.lab.descent import descend

CLAIM = "L10"
WIDTH, LENGTH, DEPTH = 16, 12, 4  # of the strings that are learned from
LONG = 60


def forgetful(input_size: int, hidden_size: int) -> Pointwise:
    """Each step by itself: what it knows of the past, it reads off the stack."""
    layers = nn.Linear(input_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, hidden_size), nn.Tanh()
    return Pointwise(nn.Sequential(*layers), input_size, hidden_size)


def with_stack(kinds: int) -> StackMemory:
    return StackMemory.around(forgetful, 2 * kinds, WIDTH, depth=16, noise=1.0, hard=True)


class Judge(nn.Module):
    """Says of every prefix what it is."""

    def __init__(self, body: Recurrence, answers: int = 3) -> None:
        super().__init__()
        self.body, self.readout = body, nn.Linear(body.output_size, answers)

    def forward(self, x_BT: Tensor) -> Tensor:
        return self.readout(self.body(F.one_hot(x_BT, self.body.input_size).float())[0])


def strings(B: int, kinds: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Short and shallow ones."""
    lengths_B = 2 * torch.randint(1, LENGTH // 2 + 1, (B,), generator=draws)
    depths_B = 1 + (torch.rand(B, generator=draws) * (lengths_B // 2).clamp(max=DEPTH)).long()
    return brackets(lengths_B, depths_B, kinds, draws)


def taught(model: Judge, kinds: int, steps: int) -> Judge:
    draws = torch.Generator().manual_seed(0)

    def loss() -> Tensor:
        x_BT, y_BT = strings(32, kinds, draws) if kinds else parity(32, LENGTH, draws)
        return F.cross_entropy(model(x_BT).flatten(0, 1), y_BT.flatten(), ignore_index=UNSCORED)

    descend(model.parameters(), loss, steps, lr=2e-2)
    return model.eval()


@torch.no_grad()
def right(model: Judge, kinds: int, depth: int = 0) -> float:
    """The share of strings of 60 tokens, so deep, that are judged rightly at the end."""
    draws = torch.Generator().manual_seed(99)
    if kinds:
        x_BT, y_BT = brackets(torch.full((300,), LONG), torch.full((300,), depth), kinds, draws)
    else:
        x_BT, y_BT = parity(300, LONG, draws)
    return float((model(x_BT)[:, -1].argmax(-1) == y_BT[:, -1]).float().mean())


def run(quick: bool = False) -> Outcome:
    kinds, steps, depths = (1, 250, [4, 12]) if quick else (2, 1000, [2, 4, 8, 12, 16])
    makes = {"stack": lambda: with_stack(kinds), "elman": lambda: Elman(2 * kinds, 32)}
    if not quick:
        makes["gru"] = lambda: GRU(2 * kinds, 32)
    found = {}
    for name, make in makes.items():
        torch.manual_seed(0)
        model = taught(Judge(make()), kinds, steps)
        found[name] = [right(model, kinds, depth) for depth in depths]
    controls = {"gru": lambda: GRU(2, 16)}
    if not quick:
        controls |= {"elman": lambda: Elman(2, 32), "stack": lambda: with_stack(1)}
    findings = [
        within(f"stack, {kinds} kinds, {depths[-1]} deep: judged rightly", found["stack"][-1], 0.97, 1.0),
        within(f"elman, {kinds} kinds, {depths[-1]} deep", found["elman"][-1], 0.0, 0.9),
    ]
    for name, make in controls.items():
        torch.manual_seed(0)
        odd = right(taught(Judge(make(), 2), 0, 300 if quick else 1000), 0)
        findings.append(within(f"control: is the number of ones odd? {name}", odd, 0.97, 1.0))
    return Outcome(tuple(findings), {"depths": depths, "right": found})


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    axes = figure.subplots()
    curves = {name: (shown["depths"], values) for name, values in shown["right"].items()}
    plot(axes, curves, f"depth of strings of {LONG} tokens", "share judged rightly", marks=True)
    axes.axvspan(0, DEPTH, color="#f0f2f4", zorder=-1)
    axes.set_ylim(0, 1.03)
