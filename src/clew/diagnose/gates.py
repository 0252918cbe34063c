"""What the gates and units of a recurrence do on data: how long they keep, where they stick, which are dead.

time constant   -dt / ln f, f the geometric mean of what a unit keeps of its state at a step (Tallec & Ollivier 2018,
                arXiv:1804.11188): the steps, or seconds, in which what it knows falls by a factor of e
saturated       the share of a gate's values under 0.05 or over 0.95, where it hardly learns (Karpathy, Johnson &
                Fei-Fei 2015, arXiv:1506.02078, section 4.2)
dead            units whose output does not move: a deviation under a thousandth of the layer's median one
drift           how the size of the state goes on: its slope over the second half, beside its mean, a hundred steps

B batch, T steps, N units
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from clew import tree
from clew.cells import Encoder, Recurrence
from clew.cells.pool import Pool
from clew.diagnose.flow import layers_of, watched
from clew.diagnose.spectra import Spectrum, spectrum

LOW, HIGH = 0.05, 0.95
STILL = 1e-3
GATED = 8  # rows by which gates are told
SETTLED = 50  # steps over which a drift is told, at least
KEEP = "keep"  # the gate that says how much of its state a unit keeps


class Gate(NamedTuple):
    name: str
    mean: float
    low: float  # share under 0.05
    high: float  # share over 0.95


class Layer(NamedTuple):
    """What a layer does."""

    name: str
    gates: list[Gate]
    constants: list[float]  # of each unit, in steps, shortest first; [] where the cell names no gate that keeps
    dead: int
    units: int
    norms: list[float]  # of the state after each step, root mean square over rows
    drift: float
    spectrum: Spectrum


@torch.no_grad()
def layers(body: Recurrence | Encoder, x_BTI: Tensor) -> list[Layer]:
    """Of each layer that is a recurrence with a state, on whole sequences from their beginning."""
    body.eval()
    with watched(body) as given:
        body(x_BTI)
    found = []
    for name, layer in layers_of(body):
        if not isinstance(layer, Recurrence) or isinstance(layer, Pool) or tree.rows(layer.init_state(1)) is None:
            continue
        h_BTI = given[name]
        deviations = layer(h_BTI)[0].flatten(0, 1).std(0)
        dead = int((deviations < STILL * deviations.median().clamp(min=1e-12)).sum())
        gates, norms = layer.gate_values(h_BTI[:GATED]), state_norms(layer, h_BTI)
        stats = [Gate(gate, *_shares(values)) for gate, values in gates.items()]
        constants = time_constants(gates[KEEP]) if KEEP in gates else []
        exponents = spectrum(layer, h_BTI[0]) if h_BTI.is_floating_point() else Spectrum([], math.nan, 0)
        settled = bool(gates) and (not constants or constants[len(constants) * 9 // 10] < len(norms) / 6)
        moved = drift(norms) if settled else 0.0  # what fills, or is not full yet, goes nowhere
        found.append(Layer(name, stats, constants, dead, len(deviations), norms, moved, exponents))
    return found


def time_constants(keep_BTN: Tensor, dt: float = 1.0) -> list[float]:
    """-dt / ln f of each unit, shortest first; infinite where all is kept."""
    logs_N = keep_BTN.clamp(min=1e-30).log().flatten(0, 1).flatten(1).mean(0, dtype=torch.float64)
    return sorted(math.inf if rate >= 0 else -dt / rate for rate in logs_N.tolist())


def state_norms(cell: Recurrence, x_BTI: Tensor) -> list[float]:
    """The size of the state after each step."""
    state, norms = cell.init_state(len(x_BTI)), []
    for x_BI in x_BTI.unbind(1):
        state = cell.step(x_BI, state)[1]
        squares = sum(float(s.double().square().sum()) for s in tree.leaves(state) if s.is_floating_point())
        norms.append(math.sqrt(squares / len(x_BTI)))
    return norms


def drift(norms: list[float]) -> float:
    """The slope of the second half beside its mean, a hundred steps; 0 where there is too little to say."""
    half = torch.tensor(norms[len(norms) // 2 :], dtype=torch.float64)
    if len(half) < SETTLED or not half.mean() > 0:
        return 0.0
    t = torch.arange(len(half), dtype=torch.float64)
    t = t - t.mean()
    return float((t @ half) / (t @ t) / half.mean()) * 100


def _shares(values: Tensor) -> tuple[float, float, float]:
    return float(values.mean()), float((values < LOW).float().mean()), float((values > HIGH).float().mean())
