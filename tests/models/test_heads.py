"""Heads: what their losses say against sums written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from clew.models.heads.classes import ClassHead, Tied, smoothed_entropy
from clew.models.heads.copying import CopyHead


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("classes", [2, 5, 1000])
def test_the_entropy_of_a_smoothed_target(smoothing: float, classes: int) -> None:
    p = torch.full((classes,), smoothing / classes, dtype=torch.float64)
    p[0] += 1 - smoothing
    assert smoothed_entropy(smoothing, classes) == pytest.approx(float(torch.special.entr(p).sum()), abs=1e-12)


def test_matching_brings_predictions_to_the_asked_entropy() -> None:
    """Trained on one and the same class, predictions keep the entropy that the matching asks for; without it, none."""
    found = []
    for matching in (0.0, 100.0):
        torch.manual_seed(0)
        head = ClassHead(3, 4, matching=matching, entropy=1.0)
        optimiser = torch.optim.Adam(head.parameters(), lr=0.05)
        y, target = torch.randn(20, 3), torch.zeros(20, dtype=torch.int64)
        for _ in range(300):
            optimiser.zero_grad()
            head.loss(y, target).backward()
            optimiser.step()
        found.append(float(torch.special.entr(head.predict(y).detach().exp()).sum(-1).mean()))
    assert found[0] < 0.1
    assert found[1] == pytest.approx(1.0, abs=0.05)


def test_tied_scores_are_products_with_the_vectors_and_learn_them() -> None:
    vectors = nn.Embedding(6, 3)
    head = ClassHead(3, 6, readout=Tied(vectors))
    assert {name for name, _ in head.named_parameters()} == {"readout.bias"}
    y = torch.randn(2, 3)
    torch.testing.assert_close(head.predict(y), (y @ vectors.weight.T).log_softmax(-1))
    head.loss(y, torch.tensor([1, 2])).backward()
    assert vectors.weight.grad is not None
    assert vectors.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_copies_by_hand(smoothing: float) -> None:
    """Two places hold the same unit, one a word that the vocabulary lacks; a target may be nowhere in the source."""
    torch.manual_seed(0)
    head = CopyHead(4, 5, smoothing).double()
    y, weights = torch.randn(3, 4, dtype=torch.float64), torch.tensor([[0.2, 0.3, 0.5]] * 3, dtype=torch.float64)
    units, target = torch.tensor([[2, 5, 2]] * 3), torch.tensor([2, 5, 4])
    gate, known = torch.sigmoid(head.gate(y))[:, 0], head.readout(y).softmax(-1)
    expected = torch.zeros(3, 6, dtype=torch.float64)
    expected[:, :5] = gate[:, None] * known
    expected[:, 2] += (1 - gate) * 0.7
    expected[:, 5] += (1 - gate) * 0.3
    found = head.predict(y, weights, units, 1)
    torch.testing.assert_close(found.exp(), expected)
    loss = -expected[range(3), target].log().mean()
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * known.log().mean()
    torch.testing.assert_close(head.loss(y, target, weights, units), loss)


def test_a_word_that_stands_nowhere_has_a_finite_loss_and_gradient() -> None:
    head = CopyHead(4, 5)
    y = torch.randn(2, 4, requires_grad=True)
    loss = head.loss(y, torch.tensor([7, 0]), torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64))
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert y.grad is not None
    assert y.grad.isfinite().all()
