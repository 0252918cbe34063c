"""Fewer steps, and units that nobody aligned: chunks are wholes, padding is nothing, a loss is a sum over paths."""

from __future__ import annotations

from itertools import groupby, product

import pytest
import torch
from torch import Tensor

from clew.cells import GRU, Bidirectional, Recurrence
from clew.data.pair_batch import PairBatch, PairExample, collate_pairs
from clew.errors import NotCausalError, ShapeError
from clew.models.subsample import Subsample
from clew.models.unaligned import BLANK, Unaligned

I, H, V = 3, 4, 3
LENGTHS = torch.tensor([7, 4, 1, 0])


@pytest.mark.parametrize(("stride", "kernel"), [(1, 1), (1, 4), (2, 0), (3, 3), (3, 7)])
def test_pieces_are_the_whole(stride: int, kernel: int) -> None:
    torch.manual_seed(0)
    front, x = Subsample(I, H, stride, kernel).double(), torch.randn(2, 11, I, dtype=torch.float64)
    y, made, state = front(x)
    assert made.tolist() == [11 // stride] * 2 == [y.shape[1]] * 2
    for cut in ([5, 6], [1] * 11, [0, 3, 0, 8], [2, 2, 7]):
        pieces, at, t = [], None, 0
        for n in cut:
            piece, _, at = front(x[:, t : t + n], at)
            pieces.append(piece)
            t += n
        torch.testing.assert_close(torch.cat(pieces, 1), y)
        torch.testing.assert_close(at, state)


def test_an_output_is_what_its_inputs_are() -> None:
    torch.manual_seed(0)
    front, x = Subsample(I, H, 2, 3), torch.randn(1, 6, I)
    y = front(x)[0]
    seen = torch.cat([x[0, 1], x[0, 2], x[0, 3]])
    torch.testing.assert_close(y[0, 1], torch.nn.functional.silu(front.linear(seen)))
    first = torch.cat([torch.zeros(I), x[0, 0], x[0, 1]])
    torch.testing.assert_close(y[0, 0], torch.nn.functional.silu(front.linear(first)))


def test_padding_is_not_seen() -> None:
    """Rows of other lengths are those rows alone, whatever stands behind, with gradients; and they can go on."""
    torch.manual_seed(0)
    front, x = Subsample(I, H, 3, 5).double(), torch.randn(4, 7, I, dtype=torch.float64)
    dirty = x.masked_fill(torch.arange(7)[:, None] >= LENGTHS[:, None, None], torch.nan).requires_grad_()
    y, made, state = front(dirty, None, LENGTHS)
    assert made.tolist() == [2, 1, 0, 0]
    more = torch.randn(4, 5, I, dtype=torch.float64)
    after, _, _ = front(more, state)
    for b, n in enumerate(LENGTHS.tolist()):
        alone, _, own = front(x[b : b + 1, :n])
        torch.testing.assert_close(y[b, : made[b]], alone[0])
        assert (y[b, made[b] :] == 0).all()
        on, count, _ = front(more[b : b + 1], own)
        torch.testing.assert_close(after[b, : int(count)], on[0])
    y.sum().backward()
    assert dirty.grad is not None
    assert dirty.grad.isfinite().all()


def test_a_kernel_that_leaves_inputs_out() -> None:
    with pytest.raises(ShapeError, match="leaves out inputs"):
        Subsample(I, H, 3, 2)


def made(body: type[Recurrence] = GRU) -> Unaligned:
    torch.manual_seed(1)
    return Unaligned(Subsample(I, H, 2), body(H, H), V).double()


def batch(targets: list[list[int]]) -> PairBatch:
    generator = torch.Generator().manual_seed(2)
    examples = [
        PairExample(torch.randn(int(n), I, generator=generator).numpy(), torch.tensor(units, dtype=torch.int64).numpy())
        for n, units in zip([8, 6, 9], targets, strict=True)
    ]
    given = collate_pairs(examples)
    return given._replace(source=given.source.double())


def test_the_loss_is_what_all_paths_add_up_to() -> None:
    model, targets = made(), [[1, 2], [], [2, 2, 1]]
    given = batch(targets)
    surprise: list[Tensor] = []
    for b, units in enumerate(targets):
        logp = model(given.source[b : b + 1, : int(given.source_lengths[b])])[0][0]
        paths = [p for p in product(range(V), repeat=len(logp)) if [u for u, _ in groupby(p) if u != BLANK] == units]
        total = torch.stack([logp[range(len(logp)), list(path)].sum() for path in paths]).logsumexp(0)
        surprise.append(-total)
    expected = torch.stack(surprise).sum() / sum(len(units) + 1 for units in targets)
    torch.testing.assert_close(model.loss(given), expected.float(), rtol=1e-5, atol=1e-5)


def test_parts_of_a_batch_are_the_whole() -> None:
    """Each weighed by its `losses`, as accumulated gradients are."""
    model, targets = made(), [[1, 2], [1], [2, 2, 1]]
    given = batch(targets)
    parts = [
        collate_pairs([PairExample(given.source[b, :n].numpy(), torch.tensor(units).numpy())])
        for b, (n, units) in enumerate(zip(given.source_lengths.tolist(), targets, strict=True))
    ]
    parts = [part._replace(source=given.source[b : b + 1, : part.source.shape[1]]) for b, part in enumerate(parts)]
    total = sum(model.loss(part) * part.losses for part in parts) / given.losses
    torch.testing.assert_close(total, model.loss(given))


def test_what_has_no_room_counts_as_nothing() -> None:
    model = made()
    loss = model.loss(batch([[1, 1, 1, 1, 1], [1], [1]]))
    assert loss.isfinite()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_stream_says_what_the_whole_says() -> None:
    model, x = made(), torch.randn(2, 9, I, dtype=torch.float64)
    whole, end = model(x)
    state, pieces = model.init_state(2), []
    for n in (1, 0, 3, 4, 1):
        t = sum(piece for piece, _ in pieces) if pieces else 0
        logp, state = model(x[:, t : t + n], state)
        pieces.append((n, logp))
    torch.testing.assert_close(torch.cat([logp for _, logp in pieces], 1), whole)
    torch.testing.assert_close(state, end)
    padded = model(x, lengths=torch.tensor([9, 5]))[0]
    torch.testing.assert_close(padded[1, :2], model(x[1:, :5])[0][0])
    assert (padded[1, 2:] == 0).all()


def test_what_needs_the_future_does_not_stream() -> None:
    torch.manual_seed(0)
    model = Unaligned(Subsample(I, H, 2), Bidirectional(GRU(H, H), GRU(H, H)), V)
    assert model(torch.randn(2, 9, I))[0].shape == (2, 4, V)
    with pytest.raises(NotCausalError, match="cannot stream"):
        model.init_state(1)
