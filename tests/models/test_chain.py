"""A linear-chain CRF is what adding up and comparing all sequences of classes gives."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from clew.data.batch import Batch
from clew.models.heads.chain import ChainHead

B, T, W, K = 4, 4, 3, 3
LENGTHS = torch.tensor([4, 1, 0, 3])


@pytest.fixture
def made() -> tuple[ChainHead, Tensor, Tensor]:
    torch.manual_seed(0)
    head = ChainHead(W, K).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    y = torch.randn(B, T, W, dtype=torch.float64)
    return head, y, torch.arange(T) < LENGTHS[:, None]


def of_all(head: ChainHead, e_TK: Tensor) -> dict[tuple[int, ...], Tensor]:
    """The score of each sequence of classes over these steps, written out."""
    scores = {}
    for k in product(range(K), repeat=len(e_TK)):
        score = head.first[k[0]] + head.last[k[-1]] + sum(e_TK[t, c] for t, c in enumerate(k))
        scores[k] = score + sum(head.moves[a, b] for a, b in pairwise(k))
    return scores


def test_everything_equals_enumeration(made: tuple[ChainHead, Tensor, Tensor]) -> None:
    head, y, real = made
    e = head.readout(y)
    partition, best, marginals = head.log_partition(e, real), head.best(e, real), head.marginals(e, real)
    for b, n in enumerate(LENGTHS.tolist()):
        if not n:
            assert partition[b] == 0
            continue
        scores = of_all(head, e[b, :n])
        whole = torch.stack(list(scores.values())).logsumexp(0)
        torch.testing.assert_close(partition[b], whole)
        assert tuple(best[b, :n].tolist()) == max(scores, key=lambda k: float(scores[k].detach()))
        for t, k in product(range(n), range(K)):
            here = torch.stack([score for classes, score in scores.items() if classes[t] == k]).logsumexp(0)
            torch.testing.assert_close(marginals[b, t, k], here - whole)
        for classes in list(scores)[::5]:
            padded = torch.tensor([[*classes, *[0] * (T - n)]])
            torch.testing.assert_close(head.score(e[b : b + 1], padded, real[b : b + 1])[0], scores[classes])


def test_loss_is_the_surprise_of_a_step(made: tuple[ChainHead, Tensor, Tensor]) -> None:
    """With its gradients; what stands in the padding, NaN too, does not matter."""
    head, y, real = made
    target = torch.randint(K, (B, T))
    wrong_y, wrong_target = y.masked_fill(~real[..., None], torch.nan), target.masked_fill(~real, -1)
    loss = head.sequence_loss(wrong_y, Batch(wrong_y, wrong_target, LENGTHS))
    grads = torch.autograd.grad(loss, list(head.parameters()))
    e, surprise = head.readout(y), torch.zeros((), dtype=torch.float64)
    for b, n in enumerate(LENGTHS.tolist()):
        if n:
            scores = of_all(head, e[b, :n])
            whole = torch.stack(list(scores.values())).logsumexp(0)
            surprise = surprise + whole - scores[tuple(target[b, :n].tolist())]
    expected = surprise / LENGTHS.sum()
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(grads, torch.autograd.grad(expected, list(head.parameters())), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_predictions_are_the_best_classes_and_how_sure_they_are(made: tuple[ChainHead, Tensor, Tensor]) -> None:
    head, y, real = made
    with torch.no_grad():
        found = head.predict_sequence(y.masked_fill(~real[..., None], torch.nan), LENGTHS)
        e = head.readout(y)
    assert found[..., 0].long()[real].equal(head.best(e, real)[real])
    assert (found[~real] == 0).all()
    assert ((found[..., 1] <= 0) & (found[..., 1] > -20)).all()
    for b, n in enumerate(LENGTHS.tolist()):
        if n:
            torch.testing.assert_close(head.predict_sequence(y[b : b + 1, :n])[0], found[b, :n])
