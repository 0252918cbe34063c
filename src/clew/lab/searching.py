"""A wider beam finds likelier sequences and costs as much more; entropy matching makes what is predicted more varied.

A beam of width B keeps the B likeliest beginnings: with B = 1 it is greedy, and where B is the number of all of them it
is exhaustive (Lowerre 1976; here so that a wider one finds all that a narrower one does: Lemons et al. 2022,
arXiv:2204.02929). A model that has learned its few examples by heart is surer than the source is: a loss for how far
the mean entropy of its predictions lies from the source's brings it back.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clew.cells import GRU, Pointwise, Stack
from clew.decode import beam
from clew.diagnose.draw import plot
from clew.lab.base import Finding, Outcome, slope, within
from clew.lab.descent import descend
from clew.models import Single
from clew.models.embed import Units
from clew.models.heads.classes import ClassHead

CLAIM = "L12"
END, KINDS, MOST = 0, 5, 6
SOURCE, CHOICES = 12, 4  # symbols, and how many may follow each, all alike


class Counted:
    """A model whose steps are counted, in rows."""

    def __init__(self, model: Single) -> None:
        self.model, self.rows = model, 0

    def step(self, x_B1: Tensor, state: Any, context: Any = None) -> tuple[Tensor, Any]:
        self.rows += len(x_B1)
        return self.model.step(x_B1, state, context)


def language(units: int, width: int, hidden: int, head: ClassHead) -> Single:
    return Single(Stack(Pointwise(Units(units, width), 1, width), GRU(width, hidden)), head)


def widths_of(rows: int, widths: list[int]) -> tuple[list[float], list[float]]:
    """The mean score of the best that each width finds, and rows stepped for a sequence, for a random model."""
    torch.manual_seed(0)
    head = ClassHead(8, KINDS)
    model = language(KINDS, 6, 8, head).eval()
    nn.init.normal_(head.readout.weight, std=2.0)  # pyright: ignore[reportArgumentType]
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.reset_parameters()  # evenly large, so that units differ
    scores, costs = [], []
    with torch.no_grad():
        logp_BTV, state = model(torch.randint(KINDS, (rows, 3, 1), generator=torch.Generator().manual_seed(0)))
    for width in widths:
        counted = Counted(model)
        never = torch.tensor([END])  # all are as long, so that scores compare
        found = beam(counted, logp_BTV[:, -1], state, end=END, most=MOST, width=width, never=never, monotonic=True)
        scores.append(sum(best[0].score for best in found) / rows)
        costs.append(counted.rows / rows)
    return scores, costs


def varied(matching: float, steps: int) -> float:
    """The mean entropy of predictions on new sequences, after learning few of them by heart, beside the source's."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    may = torch.stack([torch.randperm(SOURCE, generator=draws)[:CHOICES] for _ in range(SOURCE)])

    def sequences(B: int, T: int) -> Tensor:
        x = [torch.randint(SOURCE, (B,), generator=draws)]
        for _ in range(T):
            x.append(may[x[-1], torch.randint(CHOICES, (B,), generator=draws)])
        return torch.stack(x, 1)

    few, fresh = sequences(8, 30), sequences(100, 30)
    head = ClassHead(48, SOURCE, matching=matching, entropy=math.log(CHOICES))
    model = language(SOURCE, 16, 48, head)

    def loss() -> Tensor:
        y_BTH = model.body(few[:, :-1, None])[0]
        return head.loss(y_BTH.flatten(0, 1), few[:, 1:].flatten())

    descend(model.parameters(), loss, steps)
    with torch.no_grad():
        logp = model.eval()(fresh[:, :-1, None])[0]
    return float(torch.special.entr(logp.exp()).sum(-1).mean()) / math.log(CHOICES)


def run(quick: bool = False) -> Outcome:
    widths = [1, 2, 4, 16, 64, (KINDS - 1) ** (MOST - 1)]
    scores, costs = widths_of(4 if quick else 20, widths)
    never_worse = all(b >= a - 1e-6 for a, b in pairwise(scores))
    steps = 200 if quick else 500
    weights = (0.0, 3.0) if quick else (0.0, 0.1, 0.3, 1.0, 3.0)
    entropies = [varied(weight, steps) for weight in weights]
    findings = (
        Finding("a wider beam's score is never lower", float(never_worse), 1.0, 0.0),
        within("greedy: nats lost beside all sequences", scores[-1] - scores[0], 0.01, 10.0),
        Finding(
            "cost of width 4 beside 1: exponent",
            slope([0, math.log(4)], [math.log(costs[0]), math.log(costs[2])]),
            1.0,
            0.25,
        ),
        within("entropy beside the source's, by heart", entropies[0], 0.0, 0.8),
        Finding("with entropy matching", entropies[-1], 1.0, 0.2),
    )
    return Outcome(
        findings, {"widths": widths, "scores": scores, "costs": costs, "weights": weights, "entropies": entropies}
    )


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    left, middle, right = figure.subplots(1, 3)
    plot(
        left,
        {"": (shown["widths"], shown["scores"])},
        "width of the beam",
        "score of the best, nats",
        log="x",
        marks=True,
    )
    plot(middle, {"": (shown["widths"], shown["costs"])}, "width of the beam", "steps a sequence", log="xy", marks=True)
    plot(
        right,
        {"": (shown["weights"], shown["entropies"])},
        "weight of matching",
        "entropy beside the source's",
        marks=True,
    )
