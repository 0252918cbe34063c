"""Spectra, gates and units, where the truth is known."""

from __future__ import annotations

import math

import pytest
import torch
from known import pinned

from clew.cells import GRU, LRU, LSTM, RECURRENCES, Elman, LinearRecurrence, MinGRU, Residual, StackMemory
from clew.diagnose import gates
from clew.diagnose.spectra import spectrum
from clew.tree import leaves


class Diagonal(LinearRecurrence):
    """h[t] = a h[t-1] + x[t] with decays that are given."""

    def __init__(self, *decays: float) -> None:
        super().__init__(len(decays), len(decays))
        self.a = torch.nn.Parameter(torch.tensor(decays))

    def coefficients(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.a.expand_as(x), x


def test_exponents_of_a_diagonal_are_the_logarithms_of_its_decays() -> None:
    decays = (0.99, -0.9, 0.5)
    found = spectrum(Diagonal(*decays), torch.randn(150, 3), exponents=3)
    assert found.exponents == pytest.approx([math.log(abs(a)) for a in decays], abs=1e-3)
    assert found.radius == pytest.approx(0.99, abs=1e-4)
    assert found.size == 3


def test_large_weights_are_chaotic_and_small_ones_are_not() -> None:
    torch.manual_seed(0)
    tops = []
    for gain in (0.5, 3.0):
        cell = Elman(2, 100)
        with torch.no_grad():
            cell.weight_hh.copy_(torch.randn(100, 100) * gain / 10)
        tops.append(spectrum(cell, 0.01 * torch.randn(150, 2), 3).exponents[0])
    assert tops[0] == pytest.approx(math.log(0.5), abs=0.1)
    assert tops[1] > 0.1


def test_time_constants_are_read_off() -> None:
    body, x = pinned(0.95), torch.randn(2, 30, 2)
    (layer,) = gates.layers(body, x)
    assert layer.constants == pytest.approx([-1 / math.log(0.95)] * 6, rel=1e-4)
    assert gates.time_constants(body.gate_values(x)["keep"], 1 / 50)[0] == pytest.approx(0.390, abs=1e-3)
    assert {gate.name for gate in layer.gates} == {"input", "keep", "output"}


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"initial": "random"}, {"zoneout": 0.2}])
def test_the_gates_of_an_lstm_are_the_slopes_of_its_steps(options: dict) -> None:
    torch.manual_seed(0)
    cell = LSTM(3, 4, **options).double().eval()
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    keep, state = cell.gate_values(x)["keep"], cell.init_state(2)
    for t, x_BI in enumerate(x.unbind(1)):
        c = state.c.detach().requires_grad_()
        after = cell.step(x_BI, state._replace(c=c))[1]
        assert torch.allclose(keep[:, t], torch.autograd.grad(after.c.sum(), c)[0])
        state = cell.step(x_BI, state)[1]


@pytest.mark.parametrize("options", [{}, {"layer_norm": True}, {"initial": "random"}, {"zoneout": 0.2}])
def test_the_gates_of_a_gru_say_how_much_of_h_is_left(options: dict) -> None:
    """h' = u h + (1 - u) n, where the candidate n is sent to 1: then u = (1 - h') / (1 - h)."""
    torch.manual_seed(0)
    cell = GRU(3, 4, **options).double().eval()
    with torch.no_grad():
        assert cell.bias_ih is not None
        cell.bias_ih[8:] = 300.0
        if cell.norm_ih is not None:
            cell.norm_ih[8:] = 0.0
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    keep, state = cell.gate_values(x)["keep"], cell.init_state(2)
    for t, x_BI in enumerate(x.unbind(1)):
        after = cell.step(x_BI, state)[1]
        assert torch.allclose(keep[:, t], (1 - after.h) / (1 - state.h))
        state = after


@pytest.mark.parametrize("name", RECURRENCES)
def test_every_recurrence_says_what_its_gates_do(name: str) -> None:
    torch.manual_seed(0)
    cell = RECURRENCES[name](6, 8).eval()
    x = torch.randn(3, 51, 6)
    with torch.no_grad():
        found = cell.gate_values(x)
        wrapped = Residual(RECURRENCES[name](6, 6), "rms").gate_values(x)
    assert found.keys() == wrapped.keys()
    for gate in found.values():
        assert gate.shape[:2] == (3, 51)
        assert float(gate.min()) >= 0
        assert float(gate.max()) <= 1 + 1e-6
    (layer,) = gates.layers(cell, x)
    assert layer.units == cell.output_size
    assert len(layer.norms) == 51
    assert len(layer.spectrum.exponents) == min(8, layer.spectrum.size)


def test_what_is_kept_of_linear_cells_is_the_slope_of_the_state() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3)
    cell = MinGRU(3, 4)
    assert torch.equal(cell.gate_values(x)["keep"], cell.coefficients(x)[0].detach())
    lru = LRU(3, 4)
    assert torch.allclose(lru.gate_values(x)["keep"][0, 0], torch.exp(-torch.exp(lru.nu)).detach(), atol=1e-6)


def test_gates_of_what_steps_one_by_one_stand_in_time() -> None:
    cell = StackMemory.around(MinGRU, 3, 4, depth=3)
    assert cell.gate_values(torch.randn(2, 7, 3))["keep"].shape == (2, 7, 4)


def test_dead_units_and_drift() -> None:
    cell = Diagonal(0.5, 0.5, 0.0, 0.5)
    with torch.no_grad():
        x = torch.randn(4, 50, 4)
        x[..., 2] = 0.0
    (layer,) = gates.layers(cell, x)
    assert layer.dead == 1
    assert gates.drift([1.0] * 100) == pytest.approx(0)
    assert gates.drift([0.01 * t for t in range(200)]) == pytest.approx(1 / 1.495, rel=0.01)
    assert gates.drift([0.01 * t for t in range(60)]) == 0  # too short to say
    assert all(leaf.ndim for leaf in leaves(cell.init_state(1)))
