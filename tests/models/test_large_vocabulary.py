"""The loss over a large vocabulary is torch's own, and so are its gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clew.models.heads import vocabulary
from clew.models.heads.classes import ClassHead, Tied
from clew.ops.precision import products


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("rows", "bias"), [(1, True), (700, True), (700, False)])
def test_loss_and_gradients(rows: int, bias: bool, smoothing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "BYTES", 4 * 2000 * 300)  # three pieces
    torch.manual_seed(0)
    y, weight = torch.randn(rows, 24, requires_grad=True), torch.randn(2000, 24, requires_grad=True)
    b = torch.randn(2000, requires_grad=True) if bias else None
    given, target = [t for t in (y, weight, b) if t is not None], torch.randint(2000, (rows,))
    expected = F.cross_entropy(F.linear(y, weight, b), target, label_smoothing=smoothing)
    found = vocabulary.cross_entropy(y, weight, b, target, smoothing)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    for a, e in zip(torch.autograd.grad(3 * found, given), torch.autograd.grad(3 * expected, given), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-6)
    with torch.no_grad(), products("bfloat16"):
        rounded = vocabulary.cross_entropy(y, weight, b, target, smoothing)
    torch.testing.assert_close(rounded, expected, rtol=2e-2, atol=0)


@pytest.mark.parametrize("tied", [False, True])
def test_a_head_uses_it(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where the vocabulary is large; the numbers are the same."""
    torch.manual_seed(0)
    vectors = torch.nn.Embedding(1500, 8)
    head = ClassHead(8, 1500, smoothing=0.1, readout=Tied(vectors) if tied else None)
    y, target = torch.randn(50, 8), torch.randint(1500, (50,))
    assert vocabulary.takes(y, head.readout.weight)
    found = head.loss(y, target)
    found.backward()
    learned = (vectors if tied else head.readout).weight
    gradient, learned.grad = learned.grad, None
    monkeypatch.setattr(vocabulary, "LARGE", 10_000)
    assert not vocabulary.takes(y, head.readout.weight)
    expected = head.loss(y, target)
    expected.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, learned.grad)
