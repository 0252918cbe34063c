"""Gated recurrences learn to remember: the adding problem over 30 steps, against 1/6 for who remembers nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clew import cells
from clew.data.synthetic import adding

LENGTH, STEPS = 30, 500


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_learns_to_add(name: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(0)
    body, head = cells.RECURRENCES[name](2, 32), nn.Linear(32, 1)
    parameters = [*body.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, STEPS)
    for _ in range(STEPS):
        x_BTI, y_B1 = adding(32, LENGTH, draws)
        loss = (head(body(x_BTI)[0][:, -1]) - y_B1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
    x_BTI, y_B1 = adding(1000, LENGTH, torch.Generator().manual_seed(99))
    with torch.no_grad():
        error = (head(body(x_BTI)[0][:, -1]) - y_B1).square().mean()
    assert error < 0.02, f"mean squared error {error:.3f}; without memory it is 0.167"


def test_the_problem_is_as_described() -> None:
    x_BTI, y_B1 = adding(5000, 9, torch.Generator().manual_seed(0))
    assert x_BTI.shape == (5000, 9, 2)
    assert y_B1.shape == (5000, 1)
    numbers, marks = x_BTI.unbind(-1)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert (marks[:, :4].sum(1) == 1).all()
    assert (marks[:, 4:].sum(1) == 1).all()
    assert (marks.sum(0) > 0).all()
    torch.testing.assert_close((numbers * marks).sum(1, keepdim=True), y_B1)
    assert abs((y_B1 - 1).square().mean() - 1 / 6) < 0.01
    again, _ = adding(5000, 9, torch.Generator().manual_seed(0))
    assert torch.equal(x_BTI, again)
