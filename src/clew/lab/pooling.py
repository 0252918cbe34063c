"""What attention pooling gets wrong is bounded by how far its weights are from the right ones.

m = sum over t of a[t] h[t],  m* = sum over t of a*[t] h[t]:     |m - m*| <= |a - a*|_1 max over t of |h[t]|

The bound is attained: where all h[t] are of one length along one line, and point as a - a* does.
"""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from clew.lab.base import Finding, Outcome, within

CLAIM = "L8"
T, WIDTH = 20, 8


def errors(a_NT: Tensor, right_NT: Tensor, h_NTW: Tensor) -> tuple[Tensor, Tensor]:
    """The error of what is pooled, and its bound, (N,)."""
    apart_NT = a_NT - right_NT
    error_N = (apart_NT[:, None] @ h_NTW)[:, 0].norm(dim=-1)
    return error_N, apart_NT.abs().sum(-1) * h_NTW.norm(dim=-1).amax(-1)


def run(quick: bool = False) -> Outcome:
    draws, N = torch.Generator().manual_seed(0), 1_000 if quick else 20_000
    sharp_N1 = torch.logspace(-1, 1, N, dtype=torch.float64)[:, None]  # from all alike to nearly one place
    scores = torch.randn(2, N, T, generator=draws, dtype=torch.float64)
    a_NT, right_NT = (sharp_N1 * scores).softmax(-1)
    h_NTW = torch.randn(N, T, WIDTH, generator=draws, dtype=torch.float64)
    error_N, bound_N = errors(a_NT, right_NT, h_NTW)
    line_NTW = (a_NT - right_NT).sign()[..., None] * torch.eye(WIDTH, dtype=torch.float64)[0]
    tight_N, tight_bound_N = errors(a_NT, right_NT, line_NTW)
    findings = (
        within("largest error beside its bound", float((error_N / bound_N).max()), 0.0, 1.0),
        Finding("states along one line: error beside bound", float((tight_N / tight_bound_N).min()), 1.0, 1e-12),
    )
    return Outcome(findings, {"errors": error_N[:1000].tolist(), "bounds": bound_N[:1000].tolist()})


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    axes = figure.subplots()
    axes.scatter(shown["bounds"], shown["errors"], s=5, color="#0b62a4", label="random weights and states")
    most = max(shown["bounds"])
    axes.plot([0, most], [0, most], color="#222222", lw=1, label="the bound")
    axes.set_xlabel("bound")
    axes.set_ylabel("error of what is pooled")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
