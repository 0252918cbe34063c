"""Where the answer is a place in the input, a pointer says it far more cheaply than a softmax that knows no places.

To name T places one after the other, a softmax that has no idea pays ln T each, T ln T in all. A pointer network, whose
distribution is its attention over the input, learns to sort and pays a small part of that (Vinyals, Fortunato & Jaitly
2015, arXiv:1506.03134).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from clew.data.pair_batch import PairBatch
from clew.data.vocabulary import END
from clew.diagnose.draw import plot
from clew.lab.base import Finding, Outcome, within
from clew.lab.descent import descend
from clew.models.heads.classes import ClassHead
from clew.models.pointer_build import pointer_net

CLAIM = "L11"


def sorting(B: int, N: int, draws: torch.Generator) -> PairBatch:
    """Numbers, and their places from the least to the greatest."""
    x_BN1 = torch.rand(B, N, 1, generator=draws)
    order_BN = x_BN1[..., 0].argsort(1) + 1  # place 0 is the end
    end_B1 = torch.full((B, 1), END)
    target_BT = torch.cat([order_BN, end_B1], 1)
    read_BT1 = torch.cat([end_B1, order_BN], 1)[..., None]
    return PairBatch(x_BN1, torch.full((B,), N), read_BT1, target_BT, torch.full((B,), N + 1))


def uninformed(T: int) -> float:
    """The nats of T places from a softmax that says the same of all."""
    head = ClassHead(4, T)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return T * float(head.loss(torch.randn(T, 4), torch.randperm(T)).detach())


def run(quick: bool = False) -> Outcome:
    torch.manual_seed(0)
    N, steps = (5, 300) if quick else (8, 1200)
    sizes = [2, 5, 10, 20, 50]
    costs = [uninformed(T) for T in sizes]
    findings = [
        Finding(f"softmax that knows nothing, T = {T}", cost, T * math.log(T), 1e-4 * T)
        for T, cost in zip(sizes, costs, strict=True)
    ]
    model, draws = pointer_net("gru", 1, 32, whole=True), torch.Generator().manual_seed(0)
    losses = descend(model.parameters(), lambda: model.loss(sorting(64, N, draws)), steps)
    model.eval()
    with torch.no_grad():  # a step of the end, which costs nothing, is counted in the mean
        cost = float(model.loss(sorting(500, N, torch.Generator().manual_seed(99)))) * (N + 1)
    findings.append(within(f"pointer that sorts {N}: nats beside T ln T", cost / (N * math.log(N)), 0.0, 0.3))
    shown = {"steps": [value * (N + 1) for value in losses], "softmax": N * math.log(N), "chance": math.lgamma(N + 1)}
    return Outcome(tuple(findings), shown)


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    axes, steps = figure.subplots(), list(range(len(shown["steps"])))
    flat = {"softmax that knows nothing, T ln T": shown["softmax"], "any order alike, ln T!": shown["chance"]}
    curves = {"pointer": (steps, shown["steps"]), **{name: (steps, [v] * len(steps)) for name, v in flat.items()}}
    plot(axes, curves, "steps of training", "nats of an order", log="y")
