"""Several heads over one body: their losses are those that they have alone, and what is missing counts for none."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from clew.cells import GRU, MeanPool, Parallel, Pointwise, Stack
from clew.data.batch import Batch
from clew.models import SequenceHead, Single
from clew.models.heads.chain import ChainHead
from clew.models.heads.classes import ClassHead
from clew.models.heads.numbers import NumberHead
from clew.models.heads.shared import Reads, SharedHead, SharedSequenceHead

N, W = 9, 6
READS = [Reads(slice(0, W), slice(0, 1), True), Reads(slice(2, W), slice(1, 2), False)]


def shared(weights: list[float] | None) -> SharedHead:
    torch.manual_seed(0)
    return SharedHead([ClassHead(W, 3), NumberHead(W - 2)], READS, weights).double()


def drawn() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(N, W).double(), torch.stack([torch.arange(N) % 3 + 0.0, torch.randn(N)], 1).double()


def alone(head: SharedHead, y: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    classes = head.heads[0].loss(y, target[:, 0].long())
    return classes, head.heads[1].loss(y[:, 2:], target[:, 1:])


def test_fixed_weights() -> None:
    head, (y, target) = shared([0.5, 2.0]), drawn()
    a, b = alone(head, y, target)
    torch.testing.assert_close(head.loss(y, target), 0.5 * a + 2 * b)
    assert not hasattr(head, "log_variance")


def test_learned_weights_find_the_size_of_each_loss() -> None:
    """The best s of a fixed loss L is ln 2 L, or ln L for numbers, whose L is halved."""
    head, (y, target) = shared(None), drawn()
    with torch.no_grad():
        a, b = alone(head, y, target)
        head.log_variance.copy_(torch.stack([2 * a, b]).log())
    head.loss(y, target).backward()
    torch.testing.assert_close(head.log_variance.grad, torch.zeros(2).double(), atol=1e-12, rtol=0.0)


@pytest.mark.parametrize("weights", [[1.0, 3.0], None])
def test_what_is_missing_is_left_out(weights: list[float] | None) -> None:
    head, (y, target) = shared(weights), drawn()
    target[2:5, 0], target[:7, 1] = math.nan, math.nan
    y.requires_grad_()
    known_a, known_b = [0, 1, *range(5, N)], [7, 8]
    a, b = (
        head.heads[0].loss(y[known_a], target[known_a, 0].long()),
        head.heads[1].loss(y[known_b, 2:], target[known_b, 1:]),
    )
    expected = a + 3 * b if weights else a + b / 2
    torch.testing.assert_close(head.loss(y, target), expected)
    target[:, 1] = math.nan
    loss = head.loss(y, target)
    torch.testing.assert_close(loss, a)
    loss.backward()
    assert y.grad is not None
    assert bool(y.grad.isfinite().all())
    assert not bool(y.grad[3].any())


def test_nothing_known_still_trains() -> None:
    head, (y, target) = shared([1.0, 1.0]), drawn()
    y.requires_grad_()
    loss = head.loss(y, target * math.nan)
    assert loss.item() == 0
    loss.backward()


def test_predictions_stand_side_by_side() -> None:
    head, (y, _) = shared([1.0, 1.0]), drawn()
    torch.testing.assert_close(
        head.predict(y), torch.cat([head.heads[0].predict(y), head.heads[1].predict(y[:, 2:])], 1)
    )


def test_beside_a_chain() -> None:
    """Tags that are chosen together at each step, and a label at the last; rows without either."""
    torch.manual_seed(0)
    chain, labels = ChainHead(W, 4), ClassHead(W, 2)
    reads = [Reads(slice(0, W), slice(0, 1), True), Reads(slice(0, W), slice(1, 2), True)]
    head = SharedSequenceHead([chain, labels], reads, [1.0, 1.0]).double()
    assert isinstance(head, SequenceHead)
    assert not isinstance(shared([1.0, 1.0]), SequenceHead)
    y, lengths = torch.randn(3, 5, W).double(), torch.tensor([5, 3, 4])
    tags = torch.randint(4, (3, 5)).double()
    target = torch.stack([tags, torch.full((3, 5), math.nan).double()], -1)
    for row, end in enumerate(lengths.tolist()):
        target[row, end - 1, 1] = row % 2
        target[row, end:] = 0.0  # padding
    target[1, :3, 0] = math.nan
    x = torch.zeros(3, 5, 1)
    kept, ends = [0, 2], (torch.arange(3), lengths - 1)
    expected = chain.sequence_loss(y[kept], Batch(x[kept], tags[kept].long(), lengths[kept]))
    expected = expected + labels.loss(y[ends], torch.tensor([0, 1, 0]))
    torch.testing.assert_close(head.sequence_loss(y, Batch(x, target, lengths)), expected)
    predicted = head.predict_sequence(y, lengths)
    torch.testing.assert_close(predicted[..., :2], chain.predict_sequence(y, lengths))
    torch.testing.assert_close(predicted[..., 2:], labels.predict(y))


def test_a_body_gives_every_step_and_their_mean() -> None:
    torch.manual_seed(0)
    gru, mean = GRU(3, W), MeanPool(W)
    body = Stack(gru, Parallel(Pointwise(nn.Identity(), W), mean))
    x = torch.randn(2, 7, 3)
    y, _ = Single(body, NumberHead(2 * W)).body(x)
    steps, _ = gru(x)
    torch.testing.assert_close(y, torch.cat([steps, mean(steps)[0]], -1))
