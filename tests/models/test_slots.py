"""Sets of vectors: what is lost does not hang on an order, and the pairs are the best ones."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from clew.models.heads.slots import LOSSES, SlotHead, matched, sinkhorn

N, S, D, W = 6, 4, 2, 5
COUNTS = [4, 0, 1, 2, 3, 2]


def head(kind: str) -> SlotHead:
    torch.manual_seed(0)
    return SlotHead(W, S, D, kind).double()


def targets() -> torch.Tensor:
    torch.manual_seed(1)
    target = torch.randn(N, S, D).double()
    for row, count in zip(target, COUNTS, strict=True):
        row[count:] = math.nan
    return target


@pytest.mark.parametrize("kind", LOSSES)
def test_only_an_ordered_loss_sees_the_order(kind: str) -> None:
    y, target, model = torch.randn(N, W).double(), targets(), head(kind)
    turned = target.clone()
    for row, count in zip(turned, COUNTS, strict=True):
        row[:count] = row[:count].flip(0)
    first, second = model.loss(y, target.flatten(1)), model.loss(y, turned.flatten(1))
    if kind == "ordered":
        assert not math.isclose(first.item(), second.item(), rel_tol=1e-3)
    else:  # but for the order in which numbers are added up
        assert math.isclose(first.item(), second.item(), rel_tol=1e-14)


@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_can_be_learned(kind: str) -> None:
    """Down to elements that are where and as many as they should be; a steady order is learned too. Under Chamfer's
    distance one slot may stand between two elements that lie near each other."""
    y, target, model = torch.eye(N, W).double(), targets(), head(kind)
    y[-1] = -1.0
    optimiser = torch.optim.Adam(model.parameters(), lr=4e-2)
    for _ in range(200):
        optimiser.zero_grad()
        model.loss(y, target.flatten(1)).backward()
        optimiser.step()
    slots = model.predict(y).detach().unflatten(-1, (S, D + 1))
    for found, wanted, count in zip(slots, target, COUNTS, strict=True):
        used = found[found[:, -1] > 0, :-1]
        assert len(used) == count
        for element in wanted[:count]:
            assert float((used - element).norm(dim=-1).min()) < (0.5 if kind == "chamfer" else 0.2)


def test_pairs_are_the_cheapest() -> None:
    torch.manual_seed(2)
    cost = torch.randn(20, S, S).double()
    real = torch.arange(S) < torch.randint(0, S + 1, (20, 1))
    pairs = matched(cost, real)
    for c, p, r in zip(cost, pairs, real, strict=True):
        count = int(r.sum())
        best = min(sum(c[slot, j] for j, slot in enumerate(slots)) for slots in itertools.permutations(range(S), count))
        assert float((p * c).sum()) == pytest.approx(float(best), abs=1e-12)
        assert p.sum(0).tolist() == r.double().tolist()
        assert float(p.sum(1).max()) <= 1


def test_soft_pairs_share_each_element_out() -> None:
    torch.manual_seed(3)
    cost, idle = torch.rand(5, S, S).double(), torch.full((5, S), 2.0).double()
    real = torch.arange(S) < torch.tensor([[4], [0], [1], [2], [3]])
    pairs = sinkhorn(cost, idle, real)
    torch.testing.assert_close(pairs.sum(1), real.double(), atol=1e-6, rtol=0.0)
    assert float(pairs.sum(2).max()) <= 1 + 1e-2
    far = torch.tensor([[0.0, 5.0], [5.0, 0.0]]).double()[None]  # where one matching is far the best, it is that one
    both = torch.ones(1, 2, dtype=torch.bool)
    torch.testing.assert_close(sinkhorn(far, torch.zeros(1, 2).double(), both), matched(far, both), atol=1e-6, rtol=0.0)


def test_chamfer_is_its_formula() -> None:
    y, target, model = torch.randn(1, W).double(), targets()[3:4], head("chamfer")
    slots = model.predict(y)[0].unflatten(-1, (S, D + 1))
    far = (slots[:, None, :-1] - target[0, None, :2]).square().sum(-1)
    pairs = matched((far - slots[:, -1:])[None], torch.ones(1, 2, dtype=torch.bool))[0]
    used = pairs.sum(1).bool()
    near = far[used].amin(0).sum() + far[used].amin(1).sum()
    expected = near / 2 / 2 + F.binary_cross_entropy_with_logits(slots[:, -1], used.double())
    torch.testing.assert_close(model.loss(y, target.flatten(1)), expected)
