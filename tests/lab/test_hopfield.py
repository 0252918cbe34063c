"""The network that remembers: what it recalls, what its energy does, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clew.cells.hopfield import Hopfield
from clew.errors import ConfigError, ShapeError


def patterns(P: int, N: int) -> Tensor:
    return torch.randint(2, (P, N), generator=torch.Generator().manual_seed(0)).float() * 2 - 1


@pytest.mark.parametrize("gain", [0.0, 10.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_damaged_patterns_are_made_whole(gain: float, dtype: torch.dtype) -> None:
    stored_PN = patterns(10, 300).to(dtype)
    net = Hopfield.storing(stored_PN, gain=gain)
    damaged_PN = stored_PN.clone()
    damaged_PN[:, :40] *= -1
    assert torch.equal(net.recall(damaged_PN).sign(), stored_PN)


def test_the_energy_never_rises_where_units_move_one_by_one() -> None:
    net = Hopfield.storing(patterns(8, 60))
    s_1N, before = patterns(1, 60), torch.inf
    for unit in torch.randperm(60, generator=torch.Generator().manual_seed(1)).repeat(3).tolist():
        moved_1N = net.step(torch.zeros(1, 60), s_1N)[0]
        s_1N = s_1N.clone()
        s_1N[0, unit] = moved_1N[0, unit]
        assert float(net.energy(s_1N)) <= before + 1e-5
        before = float(net.energy(s_1N))


def test_a_whole_pass_is_its_steps_and_a_unit_without_a_field_stays() -> None:
    net, x_BTN = Hopfield.storing(patterns(3, 20), gain=2.0), torch.randn(2, 5, 20)
    y_BTN, last = net(x_BTN)
    state = net.init_state(2)
    for t, x_BN in enumerate(x_BTN.unbind(1)):
        y_BN, state = net.step(x_BN, state)
        assert torch.equal(y_BN, y_BTN[:, t])
    assert torch.equal(state, last)
    nothing = Hopfield(4, 4)
    assert torch.equal(
        nothing.step(torch.zeros(1, 4), torch.tensor([[1.0, -1.0, 1.0, -1.0]]))[0][0, 1], torch.tensor(-1.0)
    )


def test_what_cannot_be() -> None:
    with pytest.raises(ShapeError):
        Hopfield(3, 4)
    with pytest.raises(ConfigError):
        Hopfield(4, 4, gain=-1.0)
