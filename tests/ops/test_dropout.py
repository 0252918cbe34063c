"""Dropout: as often as asked, unbiased, with its own gradient, and the same again from the same seed."""

from __future__ import annotations

import pytest
import torch

from clew.ops.dropout import dropout


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_as_often_as_asked(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    y = dropout(torch.ones(1000, 1001, dtype=dtype), p, True)
    zeros = float((y == 0).double().mean())
    assert abs(zeros - p) < 5 * (p * (1 - p) / 1e6) ** 0.5
    assert set(y.unique().tolist()) == {0.0, float(torch.tensor(1 / (1 - p), dtype=dtype))}
    columns = (y == 0).double().mean(0)  # no place of the four in a draw is dropped more than another
    assert float((columns - p).abs().max()) < 6 * (p * (1 - p) / 1000) ** 0.5


def test_gradient_seed_and_ends() -> None:
    x = torch.randn(3, 5, 7, requires_grad=True)
    torch.manual_seed(1)
    y = dropout(x, 0.4, True)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(gradient * x, y)
    torch.manual_seed(1)
    assert torch.equal(dropout(x, 0.4, True), y)
    assert dropout(x, 0.4, False) is x
    assert dropout(x, 0.0, True) is x
    assert not dropout(x, 1.0, True).any()
    assert dropout(x[:0], 0.5, True).shape == (0, 5, 7)
