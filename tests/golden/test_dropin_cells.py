"""What torch's own tests ask of RNNCell, GRUCell and LSTMCell (test/test_nn.py), asked of the drop-ins in our words."""

from __future__ import annotations

import itertools

import pytest
import torch
from against_torch import F64, assert_same, each_layer, flat, like, pair, with_gradients

from clew import nn


@each_layer
def test_cells_in_a_loop_are_the_layer(name: str) -> None:
    layer, cell, x = (
        getattr(nn, name)(3, 5, dtype=F64),
        getattr(nn, f"{name}Cell")(3, 5, dtype=F64),
        torch.randn(6, 4, 3),
    )
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    state, ys = None, []
    for x_BI in x.double():
        state = cell(x_BI, state)
        ys.append(flat(state)[0])
    y, end = layer(x.double())
    assert_same((torch.stack(ys), [leaf[None] for leaf in flat(state)]), (y, end))


@each_layer
def test_cells_are_torchs(name: str) -> None:
    for bias, batched, given in itertools.product((True, False), repeat=3):
        theirs, ours = pair(f"{name}Cell", 3, 5, bias=bias, dtype=F64)
        x, h, c = (torch.randn(*((4,) if batched else ()), width, dtype=F64) for width in (3, 5, 5))
        hx = like(ours, h, c) if given else None
        assert_same(with_gradients(ours, x, hx), with_gradients(theirs, x, hx))


@each_layer
def test_cells_refuse_as_torchs(name: str) -> None:
    theirs, ours = pair(f"{name}Cell", 3, 5)
    shapes = [
        ((4, 2), (4, 5)),
        ((4, 3), (3, 5)),
        ((4, 3), (4, 6)),
        ((4, 3), (1, 4, 5)),
        ((1, 4, 3), (4, 5)),
        ((3,), (4,)),
    ]
    cases = [(torch.zeros(x), like(ours, torch.zeros(h))) for x, h in [*shapes, ((4, 3), (5,)), ((), (5,))]]
    if name == "LSTM":
        h = torch.zeros(2, 5)
        cases += [(torch.zeros(2, 3), hx) for hx in (torch.zeros(2, 2, 5), (h,), (h, h, h), (h, torch.zeros(2, 4)))]
    for x, hx in cases:
        with pytest.raises((RuntimeError, ValueError, TypeError, IndexError)) as wanted:
            theirs(x, hx)
        with pytest.raises(wanted.type) as got:
            ours(x, hx)
        assert str(got.value).split("\n")[0] == str(wanted.value).split("\n")[0]


@each_layer
def test_cells_second_derivatives(name: str) -> None:
    cell = getattr(nn, f"{name}Cell")(2, 3, dtype=F64)
    x, h, c = (torch.randn(2, width, dtype=F64, requires_grad=True) for width in (2, 3, 3))
    c = c if name == "LSTM" else c.detach()
    assert torch.autograd.gradgradcheck(lambda x, h, c: tuple(flat(cell(x, like(cell, h, c)))), (x, h, c))
