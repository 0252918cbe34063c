"""What a loss asks for decides what is learned: at how many steps, of how rare events, in which order.

Density: is the number of ones so far odd? With an answer at every step it is learned in a moment; with one at the last
step alone, not. Rare events: where one step in a hundred has one, cross-entropy learns to say no; weighted by how rare
they are, it finds them (focal: Lin et al. 2017, arXiv:1708.02002), and a tolerance of some steps forgives what is a
little early or late. Sets: where the order of what is asked for means nothing, an ordered loss learns the mean of all
orders, and one that matches elements learns the elements (Carion et al. 2020, arXiv:2005.12872).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from clew.cells import GRU
from clew.data.brackets import parity
from clew.lab.base import Finding, Outcome, within
from clew.lab.descent import descend
from clew.metrics.events import Events
from clew.models.heads.events import EventHead
from clew.models.heads.slots import SlotHead

CLAIM = "L14"
T = 24
RARE, HEIGHT = 0.01, 2.5


def density(every: bool, steps: int) -> float:
    """The share of sequences answered rightly at the last step."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    body, head = GRU(1, 24), nn.Linear(24, 2)

    def scores(x_BT: Tensor) -> Tensor:
        return head(body(2.0 * x_BT[..., None] - 1.0)[0])

    def loss() -> Tensor:
        x_BT, y_BT = parity(32, T, draws)
        y_BTK = scores(x_BT)
        if every:
            return F.cross_entropy(y_BTK.flatten(0, 1), y_BT.flatten())
        return F.cross_entropy(y_BTK[:, -1], y_BT[:, -1])

    descend([*body.parameters(), *head.parameters()], loss, steps)
    x_BT, y_BT = parity(1000, T, torch.Generator().manual_seed(99))
    with torch.no_grad():
        return float((scores(x_BT)[:, -1].argmax(-1) == y_BT[:, -1]).float().mean())


def sparse(B: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise, a little higher at events."""
    event_BT = (torch.rand(B, 100, generator=draws) < RARE).float()
    return (torch.randn(B, 100, generator=draws) + HEIGHT * event_BT)[..., None], event_BT


def detected(weight: float, focal: float, steps: int) -> float:
    """The share of events to which the model gives more than 1/2, less the share of other steps: 0 for who always says
    the same."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    body, head = GRU(1, 12), EventHead(12, RARE, weight, focal)

    def loss() -> Tensor:
        x_BT1, event_BT = sparse(32, draws)
        return head.loss(body(x_BT1)[0].flatten(0, 1), event_BT.flatten()[:, None])

    descend([*body.parameters(), *head.parameters()], loss, steps)
    x_BT1, event_BT = sparse(500, torch.Generator().manual_seed(99))
    with torch.no_grad():
        says_BT = head.predict(body(x_BT1)[0])[..., 0] > 0.5
    alarms = says_BT.float()
    return float(alarms[event_BT > 0].mean() - alarms[event_BT == 0].mean())


def tolerated(tolerance: int) -> float:
    """f1 of events that are all found, up to 2 steps early or late."""
    draws = torch.Generator().manual_seed(0)
    truth = list(range(50, 5000, 50))
    late = torch.randint(-2, 3, (len(truth),), generator=draws).tolist()
    events = Events(tolerance)
    events.update(truth, [t + k for t, k in zip(truth, late, strict=True)])
    return events.result()["f1"]


def sets(kind: str, steps: int) -> float:
    """How far each element of a set of 3 is from the slot that is matched with it, root mean square."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    body, head = GRU(1, 32), SlotHead(32, 3, 1, kind)

    def drawn(B: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x_BT = torch.randn(B, 3, generator=generator)
        shuffled = torch.rand(B, 3, generator=generator).argsort(1)
        return x_BT, x_BT.gather(1, shuffled)

    def loss() -> Tensor:
        x_BT, target_BS = drawn(64, draws)
        return head.loss(body(x_BT[..., None])[0][:, -1], target_BS)

    descend([*body.parameters(), *head.parameters()], loss, steps)
    x_BT, target_BS = drawn(500, torch.Generator().manual_seed(99))
    with torch.no_grad():
        slots_BS = head.predict(body(x_BT[..., None])[0][:, -1]).unflatten(-1, (3, 2))[..., 0]
    apart_BS = slots_BS.sort(1).values - target_BS.sort(1).values  # on a line that is the cheapest matching
    return math.sqrt(float(apart_BS.square().mean()))


def run(quick: bool = False) -> Outcome:
    steps, events, elements = (220, 80, 240) if quick else (600, 500, 1500)
    dense, last = density(True, steps), density(False, steps)
    recalls = {"plain": detected(1.0, 0.0, events), "weighted": detected((1 - RARE) / RARE, 0.0, events)}
    if not quick:
        recalls["focal, weighted"] = detected((1 - RARE) / RARE, 2.0, events)
    errors = {kind: sets(kind, elements) for kind in ("matching", "ordered")}
    findings = (
        within("loss at every step: right at the last", dense, 0.95, 1.0),
        within("loss at the last step alone", last, 0.35, 0.75),
        within("rare events, cross-entropy: found less false alarms", recalls["plain"], 0.0, 0.4),
        *(
            within(f"{how}: found less false alarms", found, 0.6, 1.0)
            for how, found in recalls.items()
            if how != "plain"
        ),
        Finding("2 steps early or late, tolerance 2: f1", tolerated(2), 1.0, 0.0),
        within("tolerance 0: f1", tolerated(0), 0.0, 0.5),
        within(
            "sets: matching loss's error beside the ordered one's", errors["matching"] / errors["ordered"], 0.0, 0.6
        ),
    )
    shown = {
        "right at the last step": {"every step": dense, "last step": last},
        "events found less false alarms": recalls,
        "error of an element": errors,
    }
    return Outcome(findings, shown)


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    for axes, (says, bars) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        axes.bar(list(bars), list(bars.values()), color=["#0b62a4", "#9aa5b1", "#b5651d"][: len(bars)], width=0.6)
        axes.set_ylabel(says)
        axes.spines[["top", "right"]].set_visible(False)
