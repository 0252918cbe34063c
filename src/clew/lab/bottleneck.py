"""A context of d units of q bits each holds at most d q bits: below what the answer needs, accuracy falls.

H(c) <= d q, and to write n random bits from c alone, I(c; y) = n bits are needed. So d q >= n; below it no more than
2^(d q) of the 2^n sequences can be told apart, and at most the share 2^(d q - n) is written rightly. What is learned
comes near that, and with two bits to spare writes all.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from clew.cells import GRU
from clew.diagnose.draw import plot
from clew.lab.base import Outcome, within
from clew.lab.descent import descend

CLAIM = "L6"
WIDTH = 48


class Narrow(nn.Module):
    """An encoder, a context of d units with 2^q values each, and a decoder of all n bits from it.

    The gradient passes the rounding as if it were not there (Bengio et al. 2013, arXiv:1308.3432).
    """

    def __init__(self, n: int, units: int, bits: int) -> None:
        super().__init__()
        self.levels = 2**bits
        self.encoder, self.squeeze = GRU(1, WIDTH), nn.Linear(WIDTH, units)
        self.decoder = nn.Sequential(nn.Linear(units, WIDTH), nn.ReLU(), nn.Linear(WIDTH, n))

    def context(self, x_BT: Tensor) -> Tensor:
        """(B, d), each one of 2^q values from -1 to 1."""
        c = torch.tanh(self.squeeze(self.encoder(x_BT[..., None])[0][:, -1]))
        top = self.levels - 1
        rounded = ((c + 1) / 2 * top).round() / top * 2 - 1
        return c + (rounded - c).detach()

    def forward(self, x_BT: Tensor) -> Tensor:
        return self.decoder(self.context(x_BT))


def exact(n: int, units: int, bits: int, steps: int) -> tuple[float, int]:
    """The share of all 2^n sequences that are written rightly, and how many contexts they have."""
    torch.manual_seed(0)
    x_BT = torch.tensor(list(product((0.0, 1.0), repeat=n)))
    model = Narrow(n, units, bits)
    descend(model.parameters(), lambda: F.binary_cross_entropy_with_logits(model(2 * x_BT - 1), x_BT), steps)
    with torch.no_grad():
        right = ((model(2 * x_BT - 1) > 0) == (x_BT > 0)).all(1).float().mean()
        contexts = len(model.context(2 * x_BT - 1).mul(1000).round().unique(dim=0))
    return float(right), contexts


def run(quick: bool = False) -> Outcome:
    n, steps = (4, 250) if quick else (6, 700)
    sizes = (
        ((2, 1), (3, 1), (4, 1), (6, 1))
        if quick
        else tuple((d, 1) for d in (1, 2, 3, 4, 5, 6, 8)) + ((2, 2), (3, 2), (4, 2))
    )
    found = {size: exact(n, *size, steps) for size in sizes}
    findings = []
    for (units, bits), (share, contexts) in found.items():
        most = min(1.0, 2.0 ** (units * bits - n))
        low = 0.0 if units * bits < n + 2 else 0.95
        findings.append(within(f"{units} units of {bits} bits for {n}: written rightly", share, low, most))
        findings.append(within(f"{units} units of {bits} bits: contexts", contexts, 1, 2 ** (units * bits)))
    return Outcome(tuple(findings), {"n": n, "found": [(d * q, q, share) for (d, q), (share, _) in found.items()]})


def draw(figure: Figure, shown: dict[str, Any]) -> None:
    axes, n = figure.subplots(), shown["n"]
    rows = {}
    for capacity, bits, share in sorted(shown["found"]):
        at, value = rows.setdefault(f"{bits} bit a unit", ([], []))
        at.append(capacity)
        value.append(share)
    capacities = list(range(1, 9))
    rows["the most there can be"] = (capacities, [min(1.0, 2.0 ** (c - n)) for c in capacities])
    plot(axes, rows, "d q, bits that the context holds", f"share of {n}-bit sequences written rightly", marks=True)
    axes.axvline(n, color="#999999", lw=0.8)
