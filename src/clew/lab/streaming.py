"""A linear recurrence trains in parallel form and streams in constant memory, with the same numbers.

h[t] = a[t] h[t-1] + b[t]: all T steps at once, by a scan, or one at a time from a state whose size knows no T
(Martin & Cundy 2018, arXiv:1709.04057; Gu & Dao 2023, arXiv:2312.00752).
"""

from __future__ import annotations

import time
from typing import Any

import torch
from matplotlib.figure import Figure

from clew import tree
from clew.cells import RECURRENCES, Attention, Recurrence
from clew.diagnose.draw import plot
from clew.lab.base import Finding, Outcome, within

CLAIM = "L19"
CELLS = ("mingru", "lru", "mamba", "rwkv7")
WIDTH = 32


@torch.no_grad()
def both_ways(cell: Recurrence, T: int) -> tuple[float, float, float]:
    """The largest difference between the two ways, relative to what is largest, and the seconds of each."""
    x_1TI = torch.randn(1, T, cell.input_size, generator=torch.Generator().manual_seed(0))
    cell(x_1TI[:, :8])
    started = time.perf_counter()
    whole_1TH, _ = cell(x_1TI)
    middle = time.perf_counter()
    state, ys = cell.init_state(1), []
    for x_1I in x_1TI.unbind(1):
        y_1H, state = cell.step(x_1I, state)
        ys.append(y_1H)
    ended = time.perf_counter()
    gap = (torch.stack(ys, 1) - whole_1TH).abs().max() / whole_1TH.abs().max()
    return float(gap), middle - started, ended - middle


def gradients_apart(cell: Recurrence, T: int) -> float:
    """The largest difference between the gradients of the two ways, relative to what is largest."""
    x_1TI = torch.randn(1, T, cell.input_size, generator=torch.Generator().manual_seed(0))
    state, ys = cell.init_state(1), []
    for x_1I in x_1TI.unbind(1):
        y_1H, state = cell.step(x_1I, state)
        ys.append(y_1H)
    wanted = list(cell.parameters())
    stepped, whole = (
        torch.cat([g.flatten() for g in torch.autograd.grad(y.square().sum(), wanted) if g is not None])
        for y in (torch.stack(ys, 1), cell(x_1TI)[0])
    )
    return float((stepped - whole).abs().max() / whole.abs().max())


def run(quick: bool = False) -> Outcome:
    lengths, findings, speeds = [64, 512] if quick else [64, 256, 1024, 4096, 16384], [], {}
    sizes = {"attention": [tree.size(Attention(WIDTH, WIDTH, window=T).init_state(1)) for T in lengths]}
    for name in CELLS:
        torch.manual_seed(0)
        cell = RECURRENCES[name](WIDTH, WIDTH).eval()
        rows = [both_ways(cell, T) for T in lengths]
        with torch.no_grad():
            sizes[name] = [tree.size(cell(torch.zeros(1, T, WIDTH))[1]) for T in lengths]
        findings.append(Finding(f"{name}: whole beside step by step", max(gap for gap, _, _ in rows), 0.0, 1e-5))
        findings.append(Finding(f"{name}: gradients, over 64 steps", gradients_apart(cell, 64), 0.0, 1e-4))
        findings.append(
            Finding(f"{name}: state of the longest beside the shortest", sizes[name][-1] / sizes[name][0], 1, 0)
        )
        findings.append(within(f"{name}: times as fast as a whole", rows[-1][2] / rows[-1][1], 2.0, 10_000.0))
        speeds[name] = [stepped / whole for _, whole, stepped in rows]
    return Outcome(tuple(findings), {"lengths": lengths, "sizes": sizes, "speeds": speeds})


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    left, right = figure.subplots(1, 2)
    lengths = shown["lengths"]
    plot(left, {n: (lengths, s) for n, s in shown["sizes"].items()}, "T", "bytes of state", log="xy", marks=True)
    title = "a whole pass beside steps, times as fast"
    plot(right, {n: (lengths, s) for n, s in shown["speeds"].items()}, "T", title, log="xy", marks=True)
