"""Mixtures of Gaussians: densities as torch has them, that sum up to one, and draws that come from them."""

from __future__ import annotations

import pytest
import torch
from torch import distributions as law

from clew.models.heads.mixture import MixtureHead

M = 3


@pytest.mark.parametrize("D", [1, 2, 3])
@pytest.mark.parametrize("flags", [0, 2])
def test_densities_are_those_of_torch(D: int, flags: int) -> None:
    torch.manual_seed(D)
    head = MixtureHead(4, D, flags, M).double()
    predicted = torch.randn(5, head.readout.out_features).double()
    target = torch.cat([torch.randn(5, D), torch.randint(2, (5, flags))], 1).double()
    w, mu, diagonal, below, odds = head._parts(predicted)
    A = torch.diag_embed(diagonal.exp())
    rows, columns = torch.tril_indices(D, D, -1)
    A[..., rows, columns] = below
    normal = law.MultivariateNormal(mu, precision_matrix=A.mT @ A)
    mixture = law.MixtureSameFamily(law.Categorical(logits=w), normal)
    expected = -mixture.log_prob(target[:, :D])
    if flags:
        expected = expected - law.Bernoulli(logits=odds).log_prob(target[:, D:]).sum(-1)
    torch.testing.assert_close(head.surprise(predicted, target), expected)


def test_a_density_sums_up_to_one() -> None:
    torch.manual_seed(0)
    head = MixtureHead(4, 1, 0, M).double()
    predicted = torch.randn(1, head.readout.out_features).double()
    x = torch.linspace(-60, 60, 400_001).double()
    p = (-head.surprise(predicted.expand(len(x), -1), x[:, None])).exp()
    assert torch.trapezoid(p, x).item() == pytest.approx(1.0, abs=1e-6)


def test_draws_have_the_moments_that_they_should() -> None:
    torch.manual_seed(0)
    head = MixtureHead(4, 2, 1, M).double()
    predicted = torch.randn(1, head.readout.out_features).double()
    drawn = head.draw(predicted.expand(200_000, -1), torch.Generator().manual_seed(0))
    w, mu, diagonal, below, odds = (part[0] for part in head._parts(predicted))
    A = torch.diag_embed(diagonal.exp())
    A[:, 1, 0] = below[:, 0]
    covariance, p = torch.linalg.inv(A.mT @ A), w.softmax(-1)
    mean = p @ mu
    whole = (p[:, None, None] * (covariance + mu[:, :, None] * mu[:, None])).sum(0) - mean[:, None] * mean
    assert (drawn[:, :2].mean(0) - mean).abs().max() < 0.03 * whole.diagonal().sqrt().max()
    assert (torch.cov(drawn[:, :2].T) - whole).abs().max() < 0.03 * whole.diagonal().max()
    assert float(drawn[:, 2].mean()) == pytest.approx(float(torch.sigmoid(odds[0])), abs=0.01)


def test_the_likeliest_is_drawn_without_a_temperature() -> None:
    head = MixtureHead(4, 2, 1, M).double()
    predicted = torch.randn(7, head.readout.out_features).double()
    w, mu, _, _, odds = head._parts(predicted)
    expected = torch.cat([mu[torch.arange(7), w.argmax(-1)], (odds > 0).double()], 1)
    torch.testing.assert_close(head.draw(predicted, torch.Generator(), 0.0), expected)


def test_no_component_is_narrower_than_a_hundredth() -> None:
    head = MixtureHead(4, 1, 0, 1).double()
    predicted = torch.tensor([[0.0, 0.0, 1e6]]).double()
    assert -head.surprise(predicted, torch.zeros(1, 1).double()).item() < 4.0  # ln(100 / sqrt(2 pi)) = 3.7
