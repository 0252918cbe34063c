"""Attention that has found its place says more than attention that has not: its entropy falls below ln S.

Weights a[i] ~ exp(-(i - c)^2 / (2 w^2)) over S places have the entropy ln(w sqrt(2 pi e)) where w is neither small nor
near S, all places alike have ln S. So their ratio is ln(w sqrt(2 pi e)) / ln S. A decoder that has learned to write a
sequence backwards looks at one place at a time; before it has, everywhere (Bahdanau et al. 2015, arXiv:1409.0473).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib.figure import Figure

from clew import config
from clew.data.pair_batch import PairBatch
from clew.data.vocabulary import END, fit
from clew.diagnose.draw import plot
from clew.lab.base import Finding, Outcome, within
from clew.lab.descent import descend
from clew.models.attention import entropy_ratio
from clew.models.build import paired
from clew.models.paired import Paired

CLAIM = "L7"
PLACES, KINDS, FIRST = 50, 8, 2  # units 0 and 1 are the end and the unknown one


def bell(S: int, width: float) -> torch.Tensor:
    """A row of weights for each centre in the middle half of S places."""
    at_S = torch.arange(S, dtype=torch.float64)
    centres = torch.linspace(S / 4, 3 * S / 4, 101, dtype=torch.float64)
    return (-(at_S - centres[:, None]).square() / (2 * width**2)).softmax(-1)[None]


def batch(B: int, length: int, draws: torch.Generator) -> PairBatch:
    """Sequences and the same backwards."""
    source_BS = torch.randint(FIRST, FIRST + KINDS, (B, length), generator=draws)
    end_B1 = torch.full((B, 1), END)
    target_BT = torch.cat([source_BS.flip(1), end_B1], 1)
    x_BT = torch.cat([end_B1, target_BT[:, :-1]], 1)
    lengths = torch.full((B,), length)
    return PairBatch(source_BS[..., None], lengths, x_BT[..., None], target_BT, lengths + 1)


@torch.no_grad()
def looked(model: Paired, given: PairBatch) -> torch.Tensor:
    """Where the model looks while it writes each unit but the end, (B, T, S)."""
    model.eval()
    context = model.encode(given.source, given.source_lengths)
    return model.alignment(given.x, context, given.lengths)[:, :-1]


def run(quick: bool = False) -> Outcome:
    torch.manual_seed(0)
    real = torch.ones(1, PLACES, dtype=torch.bool)
    findings = [
        Finding(
            f"bell of width {width} over {PLACES} places, beside ln S",
            float(entropy_ratio(bell(PLACES, width), real).mean()),
            math.log(width * math.sqrt(2 * math.pi * math.e)) / math.log(PLACES),
            0.01,
        )
        for width in (1.0, 2.0, 4.0)
    ]
    same = torch.full((1, 1, PLACES), 1 / PLACES, dtype=torch.float64)
    findings.append(Finding("all places alike", float(entropy_ratio(same, real).mean()), 1.0, 1e-6))
    length, steps = (8, 120) if quick else (12, 900)
    recipe = config.build(
        {"model": {"cell": "gru", "width": 32, "embedding": 16, "bidirectional": True, "attention": "additive"}}
    )
    units = fit("character", ["abcdefgh"])
    model, draws = paired(recipe, units, units), torch.Generator().manual_seed(0)
    shown = batch(64, length, torch.Generator().manual_seed(99))
    ratios = {}
    real = torch.ones(64, length, dtype=torch.bool)
    ratios["before"] = float(entropy_ratio(looked(model, shown), real).mean())
    model.train()
    descend(model.parameters(), lambda: model.loss(batch(64, length, draws)), steps)
    weights = looked(model, shown)
    ratios["after"] = float(entropy_ratio(weights, real).mean())
    findings.append(within("a decoder that has learned nothing", ratios["before"], 0.9, 1.0))
    findings.append(within("that has learned to write backwards", ratios["after"], 0.0, 0.6))
    return Outcome(tuple(findings), {"bells": bell(PLACES, 1.0)[0, 50].tolist(), "weights": weights[0].tolist()})


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    left, right = figure.subplots(1, 2)
    places = list(range(PLACES))
    plot(left, {"focused": (places, shown["bells"]), "uniform": (places, [1 / PLACES] * PLACES)}, "place", "weight")
    right.imshow(shown["weights"], cmap="Greys", vmin=0, vmax=1)
    right.set_xlabel("place of the source")
    right.set_ylabel("unit written")
