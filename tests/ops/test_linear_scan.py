"""h[t] = a[t] h[t-1] + b[t] against its closed form, with decays of exactly 0 and 1."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from clew import ops
from clew.diagnose.laws import TOLERANCE

B, T, N = 3, 6, 4


def closed_form(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """h[t] = (a[1]...a[t]) h[0] + the sum over s of (a[s+1]...a[t]) b[s]."""
    ys = []
    for t in range(a.shape[1]):
        terms = [a[:, s + 1 : t + 1].prod(1) * b[:, s] for s in range(t + 1)]
        ys.append(a[:, : t + 1].prod(1) * h + sum(terms))
    return torch.stack(ys, 1) if ys else b


def decays(kind: str, dtype: torch.dtype) -> Tensor:
    exact = {"zero": torch.zeros(B, T, N), "one": torch.ones(B, T, N), "minus one": -torch.ones(B, T, N)}
    mixed = torch.rand(B, T, N).mul(3).floor().div(2)  # 0, 1/2 and 1
    return {**exact, "mixed": mixed, "any": torch.rand(B, T, N), "large": 1 + torch.rand(B, T, N)}[kind].to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["zero", "one", "minus one", "mixed", "any", "large"])
def test_closed_form(kind: str, dtype: torch.dtype) -> None:
    a, b, h = decays(kind, dtype), torch.randn(B, T, N, dtype=dtype), torch.randn(B, N, dtype=dtype)
    y, last = ops.linear_scan(a, b, h, initial=h)
    expected = closed_form(a, b, h)
    torch.testing.assert_close(y, expected, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])
    assert torch.equal(last, y[:, -1])
    if kind == "zero":
        assert torch.equal(y, b)
    if kind == "one":
        torch.testing.assert_close(y, h[:, None] + b.cumsum(1))


@pytest.mark.parametrize("kind", ["zero", "one", "mixed", "any"])
def test_gradients(kind: str) -> None:
    """A division by the decay would give NaN at 0."""
    a = decays(kind, torch.float64)
    points = [a, torch.randn(B, T, N, dtype=torch.float64), torch.randn(B, N, dtype=torch.float64)]
    points = [point.requires_grad_() for point in points]
    assert gradcheck(lambda a, b, h: ops.linear_scan(a, b, h, initial=h), points)
    assert gradgradcheck(lambda a, b, h: ops.linear_scan(a, b, h, initial=h), points, fast_mode=True)
    ours = torch.autograd.grad(ops.linear_scan(*points, initial=points[2])[0].square().sum(), points)
    theirs = torch.autograd.grad(closed_form(*points).square().sum(), points)
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


def test_lengths_and_resets() -> None:
    a, b = decays("any", torch.float64), torch.randn(B, T, N, dtype=torch.float64)
    h, start = torch.randn(2, B, N, dtype=torch.float64)
    lengths = torch.tensor([T, 3, 0])
    reset = torch.zeros(B, T, dtype=torch.bool)
    reset[0, 4] = reset[1, 0] = reset[1, 5] = reset[2, 2] = True
    b[1, 3:] = b[2] = float("nan")
    y, last = ops.linear_scan(a, b, h, initial=start, lengths=lengths, reset=reset)
    first = closed_form(a[:1, :4], b[:1, :4], h[:1])
    torch.testing.assert_close(y[:1], torch.cat([first, closed_form(a[:1, 4:], b[:1, 4:], start[:1])], 1))
    torch.testing.assert_close(y[1:2, :3], closed_form(a[1:2, :3], b[1:2, :3], start[1:2]))
    assert (y[1, 3:] == 0).all()
    assert (y[2] == 0).all()
    assert torch.equal(last, torch.stack([y[0, -1], y[1, 2], h[2]]))


def test_no_steps_and_one() -> None:
    a, b, h = torch.rand(B, 0, N), torch.rand(B, 0, N), torch.randn(B, N)
    y, last = ops.linear_scan(a, b, h, initial=h)
    assert y.shape == (B, 0, N)
    assert torch.equal(last, h)
    a, b = torch.rand(2, B, 1, N)
    torch.testing.assert_close(ops.linear_scan(a, b, h, initial=h)[1], a[:, 0] * h + b[:, 0])


def test_strides_do_not_matter() -> None:
    a, b = torch.rand(2, T, B, 2 * N)[..., ::2].transpose(1, 2)
    h = torch.randn(N, B).T
    y, _ = ops.linear_scan(a, b, h, initial=h)
    assert torch.equal(y, ops.linear_scan(a.contiguous(), b.contiguous(), h.contiguous(), initial=h)[0])


def test_reference_is_left_again() -> None:
    """Also after an error inside it."""

    def fail() -> None:
        with ops.reference():
            assert ops._only.get() == "reference"
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert ops._only.get() is None
