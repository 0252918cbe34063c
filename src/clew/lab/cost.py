"""A recurrence costs as many operations as there are steps; attention over all that came before, their square.

T steps of a recurrence are T times the products of one; of attention, T^2 scores and as many products with values
(Vaswani et al. 2017, arXiv:1706.03762, table 1). What a stream must keep: a state that knows no T, or T keys and as
many values.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from clew import ops, tree
from clew.cells import GRU, Attention, Elman, Recurrence
from clew.diagnose.draw import plot
from clew.lab.base import Finding, Outcome, slope

CLAIM = "L17"
WIDTH = 16


def attend(x_1TI: Tensor, cell: Attention) -> Tensor:
    """All T steps of causal self-attention as products of whole matrices, so that what is multiplied can be counted."""
    q, k, v = cell.to_qkv(x_1TI).chunk(3, -1)
    scores_1TT = (q @ k.mT) * q.shape[-1] ** -0.5
    later_TT = torch.ones(scores_1TT.shape[1:], dtype=torch.bool).triu(1)
    return cell.out(F.softmax(scores_1TT.masked_fill(later_TT, -torch.inf), -1) @ v)


@torch.no_grad()
def operations(cell: Recurrence, T: int) -> int:
    """Multiplications and additions of matrix products over T steps, as they are counted while they run."""
    x_1TI = torch.zeros(1, T, WIDTH)
    with FlopCounterMode(display=False) as counted, ops.reference():
        if isinstance(cell, Attention):
            attend(x_1TI, cell)
        else:
            cell(x_1TI)
    return counted.get_total_flops()


@torch.no_grad()
def seconds(cell: Recurrence, T: int) -> float:
    x_1TI, best = torch.randn(1, T, WIDTH), float("inf")
    for _ in range(3):
        started = time.perf_counter()
        cell(x_1TI)
        best = min(best, time.perf_counter() - started)
    return best


def run(quick: bool = False) -> Outcome:
    torch.manual_seed(0)
    lengths = [512, 1024, 2048] if quick else [512, 1024, 2048, 4096]
    few = [64, 128, 256] if quick else [256, 512, 1024]  # step by step they are slow to count, and a line all the way
    counts, findings = {}, []
    for name, kind, at, power in (("elman", Elman, few, 1), ("gru", GRU, few, 1), ("attention", Attention, lengths, 2)):
        found = [operations(kind(WIDTH, WIDTH), T) for T in at]
        counts[name] = (at, found)
        findings.append(Finding(f"{name}: exponent of operations", slope(_log(at), _log(found)), power, 0.1))
    held = {
        name: (lengths, [tree.size(make(T).init_state(1)) for T in lengths])
        for name, make in {"gru": _gru, "attention": _attention}.items()
    }
    for name, power in (("gru", 0), ("attention", 1)):
        findings.append(
            Finding(f"{name}: exponent of bytes kept", slope(_log(lengths), _log(held[name][1])), power, 0.1)
        )
    times = {
        name: (lengths, [seconds(make(T), T) for T in lengths])
        for name, make in {"gru": _gru, "attention": _attention}.items()
    }
    return Outcome(tuple(findings), {"operations": counts, "bytes": held, "seconds": times})


def _gru(T: int) -> Recurrence:
    return GRU(WIDTH, WIDTH).eval()


def _attention(T: int) -> Recurrence:
    return Attention(WIDTH, WIDTH, window=T).eval()


def _log(numbers: list) -> list[float]:
    return torch.tensor(numbers, dtype=torch.float64).log().tolist()


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    names = {
        "operations": "operations of matrix products",
        "bytes": "bytes kept for the next step",
        "seconds": "seconds",
    }
    for axes, (key, says) in zip(figure.subplots(1, 3), names.items(), strict=True):
        plot(axes, shown[key], "T", says, log="xy", marks=True)
