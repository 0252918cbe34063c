"""In plain recurrent networks gradients vanish or explode with the lag; what carries its state on keeps them.

dh[T]/dh[T-k] = product of diag(f'(...)) W: near rest its norm goes as r^k, where r is the spectral radius of W. Weights
drawn as torch draws them, uniform within 1/sqrt(H), have r = 1/sqrt(3) (the circular law: Girko 1985); orthogonal ones
have r = 1 (Saxe, McClelland & Ganguli 2014, arXiv:1312.6120), so that nothing fades but by f'. An LSTM carries c on
with its forget gate alone (Hochreiter & Schmidhuber 1997). Clipping takes the gradient's size away and leaves its
direction (Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from clew.cells import GRU, LSTM, Elman, MinGRU, Recurrence
from clew.diagnose.draw import plot
from clew.diagnose.flow import of_inputs
from clew.lab.base import Finding, Outcome, slope, within

CLAIM = "L3"
WIDTH, T = 256, 60
SMALL, LOUD = 1e-3, 1.0  # inputs near rest, and as data are


def plain(gain: float, init: str = "orthogonal") -> Elman:
    cell = Elman(4, WIDTH, recurrent_init=init)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        cell.weight_hh.mul_(gain)
    return cell


def fading(cell: Recurrence, size: float) -> list[float]:
    """The norm of the gradient of the last output with respect to the input k steps before, k = 0 ... T - 1."""
    x_BTI = size * torch.randn(8, T, cell.input_size, generator=torch.Generator().manual_seed(0))
    (norms,) = of_inputs(cell, x_BTI).values()
    return norms


def rate(norms: list[float]) -> float:
    """The factor of a step, over the middle of the lags."""
    lags = list(range(5, 40))
    return math.exp(slope(lags, [math.log(max(norms[k], 1e-300)) for k in lags]))


def clipped(cell: Recurrence, most: float) -> tuple[float, float]:
    """The norm of the gradient of all parameters after clipping, and how far it points where it did before."""
    x_BTI = torch.randn(8, T, cell.input_size, generator=torch.Generator().manual_seed(0))
    cell(SMALL * x_BTI)[0][:, -1].sum().backward()
    wanted = list(cell.parameters())

    def flat() -> Tensor:
        return torch.cat([p.grad.flatten() for p in wanted if p.grad is not None]).double()

    before = flat()
    nn.utils.clip_grad_norm_(wanted, most)
    return float(flat().norm()), float(torch.cosine_similarity(before, flat(), 0))


def run(quick: bool = False) -> Outcome:
    torch.manual_seed(0)
    plainly = {"uniform": plain(1.0, "uniform"), "orthogonal": plain(1.0), "orthogonal x 1.1": plain(1.1)}
    rest = {name: fading(cell, SMALL) for name, cell in plainly.items()}
    expected = {"uniform": 1 / math.sqrt(3), "orthogonal": 1.0, "orthogonal x 1.1": 1.1}
    findings = [
        Finding(f"elman, {name}: factor of a step", rate(norms), expected[name], 0.05 * expected[name])
        for name, norms in rest.items()
    ]
    gated = {"lstm, forget bias 3": LSTM(4, WIDTH, forget_bias=3.0), "gru, bias 3": GRU(4, WIDTH, forget_bias=3.0)}
    cells: dict[str, Recurrence] = {"elman, uniform": plain(1.0, "uniform"), "elman, orthogonal": plain(1.0), **gated}
    cells["mingru"] = MinGRU(4, WIDTH)
    loud = {name: fading(cell, LOUD) for name, cell in cells.items()}
    for name in gated:
        decades = math.log10(loud[name][T - 1] / loud["elman, uniform"][T - 1])
        findings.append(within(f"{name}: decades above elman {T - 1} steps back", decades, 5.0, 40.0))
    size, direction = clipped(plain(1.5), 1.0)
    findings.append(Finding("an exploding gradient, clipped to 1: norm", size, 1.0, 1e-4))
    findings.append(Finding("the cosine between it and the whole one", direction, 1.0, 1e-5))
    return Outcome(tuple(findings), {"near rest": rest, "with inputs of size 1": loud})


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    for axes, (title, norms) in zip(figure.subplots(1, 2), shown.items(), strict=True):
        curves = {name: (list(range(T)), [value / found[0] for value in found]) for name, found in norms.items()}
        plot(axes, curves, "lag, steps", "gradient, beside that of lag 0", log="y")
        axes.set_title(title, loc="left", fontsize=10)
