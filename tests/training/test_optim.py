"""The optimizer's groups and its learning rate."""

from __future__ import annotations

import itertools

import pytest
import torch
from toy import Toy

from clew.errors import RunError
from clew.training.optim import fill_optimizer, make_optimizer, optimizer_tensors, rate


def test_rate_rises_and_falls() -> None:
    rates = [rate(step, 100, 10, 2.0) for step in range(101)]
    assert rates[0] == 0.2
    assert rates[9] == 2.0 == rates[10]
    assert max(rates) == 2.0
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[100] == 0.0
    assert rate(0, 1, 0, 2.0) == 2.0
    assert rate(0, 1, 1, 2.0) == 2.0
    assert rate(5, 3, 0, 1.0) == 0.0


def test_vectors_are_not_decayed() -> None:
    model = Toy()
    optimizer = make_optimizer(model, 1.0, 0.5)
    decayed = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decayed[id(p)] for name, p in model.named_parameters()} == {
        name: 0.5 if p.ndim == 2 else 0.0 for name, p in model.named_parameters()
    }
    assert optimizer.defaults["fused"]


def test_state_goes_round() -> None:
    model = Toy()
    optimizer, other = make_optimizer(model, 0.1), make_optimizer(model, 0.1)
    assert optimizer_tensors(optimizer, model) == {}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    saved = optimizer_tensors(optimizer, model)
    assert {name.split("/")[0] for name in saved} == {"step", "exp_avg", "exp_avg_sq"}
    fill_optimizer(other, model, saved)
    assert all(torch.equal(value, saved[name]) for name, value in optimizer_tensors(other, model).items())
    with pytest.raises(RunError, match="exp_avg/nobody"):
        fill_optimizer(other, model, {"exp_avg/nobody": torch.zeros(1)})
