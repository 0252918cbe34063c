"""Parameters of the drop-ins: saved, shared, replaced, copied and trained as torch's."""

from __future__ import annotations

import copy
import io
import itertools

import pytest
import torch
from against_torch import F64, LAYERS, assert_same, each_layer, pair

from clew import nn


@pytest.mark.parametrize("name", [*LAYERS, *(f"{name}Cell" for name in LAYERS)])
def test_state_dicts_go_both_ways(name: str) -> None:
    grid: dict[str, tuple] = {"bias": (True, False)}
    if name in LAYERS:
        grid |= {"num_layers": (1, 2, 3), "bidirectional": (False, True), "batch_first": (False, True)}
    if "RNN" in name:
        grid["nonlinearity"] = ("tanh", "relu")
    if name == "LSTM":
        grid["proj_size"] = (0, 2)
    for values in itertools.product(*grid.values()):
        options = dict(zip(grid, values, strict=True))
        theirs, ours = getattr(torch.nn, name)(3, 5, **options), getattr(nn, name)(3, 5, **options)
        assert isinstance(ours, getattr(torch.nn, name))
        assert repr(ours) == repr(theirs)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        for a, b in ((ours, theirs), (theirs, ours)):
            a.load_state_dict(b.state_dict(), strict=True)
            with torch.no_grad():
                a.weight_hh_l0.add_(1) if name in LAYERS else a.weight_hh.add_(1)  # so that the way back is seen
        ours.load_state_dict(theirs.state_dict(), strict=True)
        for key, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[key], value)


@pytest.mark.parametrize("name", [*LAYERS, *(f"{name}Cell" for name in LAYERS)])
def test_the_same_seed_draws_the_same_weights(name: str) -> None:
    states = []
    for module in (torch.nn, nn):
        torch.manual_seed(0)
        states.append(getattr(module, name)(3, 5).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@each_layer
def test_layers_may_share_weights(name: str) -> None:
    theirs, ours = pair(name, 5, 5, num_layers=2, dtype=F64)
    x = torch.randn(6, 4, 5, dtype=F64)
    for m in (theirs, ours):
        m.weight_hh_l1 = m.weight_hh_l0
        m(x)[0].sum().backward()
    assert_same(ours(x), theirs(x))
    assert_same(ours.weight_hh_l0.grad, theirs.weight_hh_l0.grad)


@each_layer
def test_an_optimiser_moves_ours_as_torchs(name: str) -> None:
    theirs, ours = pair(name, 3, 5, num_layers=2, dtype=F64)
    x, outputs = torch.randn(6, 4, 3, dtype=F64), []
    for m in (theirs, ours):
        optimiser = torch.optim.SGD(m.parameters(), 0.5)
        for _ in range(3):
            optimiser.zero_grad()
            m(x)[0].square().mean().backward()
            optimiser.step()
        outputs.append(m(x)[0])
    assert_same(outputs[1], outputs[0])


@each_layer
def test_replaced_weights_are_seen(name: str) -> None:
    theirs, ours = pair(name, 3, 5, dtype=F64)
    x = torch.randn(6, 4, 3, dtype=F64)
    new = torch.randn(theirs.get_parameter("weight_hh_l0").shape, dtype=F64)
    for m in (theirs, ours):
        m.weight_hh_l0 = torch.nn.Parameter(new.clone())
        m.get_parameter("weight_ih_l0").data.fill_(0.5)
    assert_same(ours(x), theirs(x))


@each_layer
def test_functional_call_uses_the_weights_it_is_given(name: str) -> None:
    theirs, ours = pair(name, 3, 5)
    weights, x = {k: v.double() for k, v in theirs.state_dict().items()}, torch.randn(6, 4, 3, dtype=F64)
    assert_same(torch.func.functional_call(ours, weights, (x,)), torch.func.functional_call(theirs, weights, (x,)))
    assert ours(x.float())[0].dtype == torch.float32


@each_layer
def test_copies_by_deepcopy_and_by_file(name: str) -> None:
    m, x, file = getattr(nn, name)(3, 5, num_layers=2), torch.randn(6, 4, 3), io.BytesIO()
    torch.save(m, file)
    file.seek(0)
    for other in (copy.deepcopy(m), torch.load(file, weights_only=False)):
        assert_same(other(x), m(x), 0.0)
        with torch.no_grad():
            other.weight_hh_l0.zero_()
        assert m.weight_hh_l0.any()
        assert not torch.equal(other(x)[0], m(x)[0])


@each_layer
def test_change_of_type(name: str) -> None:
    theirs, ours = pair(name, 3, 5, bidirectional=True)
    x = torch.randn(6, 4, 3, dtype=F64)
    assert_same(ours.double()(x), theirs.double()(x))
    assert_same(ours.float()(x.float()), theirs.float()(x.float()), 1e-5)


@each_layer
def test_flatten_parameters_changes_nothing(name: str) -> None:
    m, x = getattr(nn, name)(3, 5, num_layers=2), torch.randn(6, 4, 3)
    before, places = m(x), [p.data_ptr() for p in m.parameters()]
    assert m.flatten_parameters() is None
    assert places == [p.data_ptr() for p in m.parameters()]
    assert_same(m(x), before, 0.0)
