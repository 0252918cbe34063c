"""Truncated backpropagation through time: windows carry the state, gradients reach as far back as they are told."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clew import tree
from clew.cells import GRU, LSTM, POOLS, Pointwise, Stack
from clew.data.batch import Batch, Buckets, Example, Lanes, supervision
from clew.errors import NotCausalError
from clew.models import Single
from clew.models.build import body
from clew.models.heads.classes import ClassHead
from clew.training import Settings, fit

K = 5


def documents(*lengths: int) -> list[Example]:
    random = np.random.default_rng(0)
    return [Example(random.integers(0, K, (n, 1)), random.integers(0, K, n)) for n in lengths]


def model(seed: int = 0, pooling: str = "", **options: float) -> Single:
    torch.manual_seed(seed)
    front = Pointwise(_Embed(), 1, 4)
    stack = body("lstm", 1, 6, 2, front=front, pooling=pooling, options=options)
    return Single(stack, ClassHead(6, K)).double()


class _Embed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.Embedding(K, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.vectors(x[..., 0])


def gradients(module: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(module.parameters())))


def one_pass(examples: list[Example]) -> Batch:
    """Everything as one row, reset where a document begins."""
    x = np.concatenate([e.x for e in examples])[None]
    target = np.concatenate([e.target for e in examples])[None]
    reset = np.zeros(x.shape[:2], dtype=bool)
    reset[0, np.cumsum([0, *(len(e.x) for e in examples[:-1])])] = True
    return Batch(torch.from_numpy(x), torch.from_numpy(target), reset=torch.from_numpy(reset))


@pytest.mark.parametrize("stride", [0, 3])
def test_a_window_as_long_as_the_sequence_gives_the_gradient_of_full_bptt(stride: int) -> None:
    """k2 = T: whatever k1, the first batch holds all that there is."""
    (document,) = documents(17)
    lanes = Lanes([document], 1, 17, stride)
    batch = next(lanes.epoch(0, 0))
    whole, m = next(Buckets([document], 1).epoch(0, 0)), model()
    turned = int(batch.reset[0].nonzero().max())  # the lane begins elsewhere and wraps round at the beginning
    pieces = [Example(batch.x[0, a:b].numpy(), batch.target[0, a:b].numpy()) for a, b in ((0, turned), (turned, 17))]
    assert {tuple(x) for x in whole.x[0].tolist()} == {tuple(x) for p in pieces for x in p.x.tolist()}
    expected = sum(m.loss(next(Buckets([p], 1).epoch(0, 0))) * len(p.x) for p in pieces if len(p.x)) / 17
    for ours, theirs in zip(gradients(m, m.carry(batch, None)[0]), gradients(m, expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("window", "stride"), [(4, 0), (5, 5), (6, 2), (5, 3), (3, 7), (2, 8), (1, 0), (40, 0)])
def test_windows_carry_the_state_of_the_whole_pass(window: int, stride: int) -> None:
    """Every step is learned from once, and its loss is that of one pass over everything."""
    m, examples = model(), documents(9, 14, 6)
    lanes = Lanes(examples, 1, window, stride)
    order, losses, state, seen = [], [], None, 0
    for batch in lanes.epoch(0, 3):
        chosen = torch.ones(batch.x.shape[:2], dtype=torch.bool) if batch.mask is None else batch.mask
        with torch.no_grad():
            loss, state = m.carry(batch, state)
        order.append(Example(batch.x[chosen].numpy(), batch.target[chosen].numpy()))
        losses.append(float(loss) * int(chosen.sum()))
        seen += int(chosen.sum())
    assert seen == lanes.steps == 29
    stream = Example(np.concatenate([e.x for e in order]), np.concatenate([e.target for e in order]))
    resets = _resets(lanes, 3)
    whole = Batch(torch.from_numpy(stream.x)[None], torch.from_numpy(stream.target)[None], reset=resets)
    with torch.no_grad():
        expected = m.loss(whole)
    assert sum(losses) / seen == pytest.approx(float(expected), rel=1e-12)


def _resets(lanes: Lanes, epoch: int) -> Tensor:
    one = Lanes.__new__(Lanes)
    one.__dict__.update(lanes.__dict__, window=lanes.steps, stride=lanes.steps)
    return next(one.epoch(0, epoch)).reset


def test_gradients_stop_at_the_window() -> None:
    """With k1 = k2 = 1 no gradient passes from a step to the one before it, though the state does."""
    m, (document,) = model(), documents(12)
    batches = list(Lanes([document], 1, 4).epoch(0, 0))
    state = m.carry(batches[0], None)[1]
    assert all(not leaf.requires_grad for leaf in tree.leaves(state))
    asked = tree.map(lambda leaf: leaf.clone().requires_grad_(), state)
    loss, after = m.carry(batches[1], asked)
    inside = torch.autograd.grad(loss, list(tree.leaves(asked)), allow_unused=True)
    assert any(g is not None and g.abs().max() > 0 for g in inside), "the window's own steps do reach its first state"
    assert all(not leaf.requires_grad for leaf in tree.leaves(after))


def test_a_long_stride_is_cut_every_window() -> None:
    """k1 = 6, k2 = 2: the gradient is the mean of those of three pieces, each from the state the one before left."""
    m, (document,) = model(), documents(6)
    (batch,) = Lanes([document], 1, 2, 6).epoch(0, 0)
    assert (batch.reach, batch.x.shape[1]) == (2, 6)
    expected, state = torch.zeros((), dtype=torch.float64), None
    for t in (0, 2, 4):
        reset = None if batch.reset is None else batch.reset[:, t : t + 2]
        piece = Batch(batch.x[:, t : t + 2], batch.target[:, t : t + 2], reset=reset)
        loss, state = m.carry(piece, state)
        expected = expected + loss / 3
    for ours, theirs in zip(gradients(m, m.carry(batch, None)[0]), gradients(m, expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_a_short_stride_learns_from_its_last_steps_alone() -> None:
    """k1 = 2, k2 = 5: later windows begin where the last one's k1 steps ended, and mask what was learned from."""
    m, (document,) = model(), documents(15)
    first, second, *_ = Lanes([document], 1, 5, 2).epoch(0, 0)
    assert first.mask is None
    assert second.mask.tolist() == [[False, False, False, True, True]]
    torch.testing.assert_close(first.x[:, 2:], second.x[:, :3])
    _, state = m.carry(first, None)
    _, expected = m.body(first.x[:, :2], reset=None if first.reset is None else first.reset[:, :2])
    for ours, theirs in zip(tree.leaves(state), tree.leaves(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_every_step_once_an_epoch_in_an_order_of_its_own() -> None:
    examples = [Example(np.arange(100 * i, 100 * i + n)[:, None], np.zeros(n, int)) for i, n in enumerate((30, 50, 20))]
    lanes = Lanes(examples, 4, 5)
    epochs = [torch.cat([b.x for b in lanes.epoch(7, e)], 1)[..., 0] for e in (0, 0, 1)]
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])
    assert sorted(epochs[0].flatten().tolist()) == sorted(np.concatenate([e.x[:, 0] for e in examples]).tolist())
    whole, rest = list(lanes.epoch(7, 0)), list(lanes.epoch(7, 0, start=3))
    assert all(torch.equal(a.x, b.x) for a, b in zip(whole[3:], rest, strict=True))


def test_resets_stand_where_documents_begin() -> None:
    examples = [Example(np.arange(100 * i, 100 * i + n)[:, None], np.zeros(n, int)) for i, n in enumerate((3, 4, 5))]
    for epoch in range(4):
        (batch,) = Lanes(examples, 1, 12).epoch(0, epoch)
        begins = (batch.x[0, :, 0] % 100 == 0).nonzero().flatten().tolist()
        assert batch.reset[0].nonzero().flatten().tolist() == sorted({0, *begins})


@pytest.mark.parametrize(("every", "chosen"), [(1, "1111111"), (2, "1010101"), (3, "1001001"), ("last", "0000001")])
def test_supervision(every, chosen: str) -> None:
    assert "".join("01"[int(step)] for step in supervision(7, every)) == chosen


@pytest.mark.parametrize("pooling", POOLS)
def test_a_pooled_model_learns_in_windows_what_it_learns_whole(pooling: str) -> None:
    """One answer a sequence: the loss of a document's last step is the same, wherever the windows are cut."""
    m, examples = model(pooling=pooling), documents(7, 5, 8)
    total, state = 0.0, None
    for batch in Lanes(examples, 1, 4, every="last").epoch(0, 1):
        with torch.no_grad():
            loss, state = m.carry(batch, state)
        total += float(loss) * batch.losses
    (order,) = [_order(examples, 1)]
    with torch.no_grad():
        expected = sum(float(m.loss(next(Buckets([e], 1, "last").epoch(0, 0)))) for e in order)
    assert total == pytest.approx(expected, rel=1e-10)


def _order(examples: list[Example], epoch: int) -> list[Example]:
    """Documents as an epoch's lane has them: the one that it begins inside of is cut in two, its end first."""
    whole = Lanes(examples, 1, sum(len(e.x) for e in examples), every="last")
    (batch,) = whole.epoch(0, epoch)
    starts = [*batch.reset[0].nonzero().flatten().tolist(), batch.x.shape[1]]
    pieces = [
        Example(batch.x[0, a:b].numpy(), batch.target[0, a:b].numpy())
        for a, b in pairwise(starts)
        if batch.mask[0, b - 1]
    ]
    return pieces


def test_an_encoder_cannot_carry_a_state() -> None:
    m = Single(body("gru", 1, 4, bidirectional=True), ClassHead(8, K))
    with pytest.raises(NotCausalError, match="needs the future"):
        m.carry(one_pass(documents(4)), None)


class _Fixed:
    """The same rows in batches of another size."""

    def __init__(self, examples: list[Example], rows: int) -> None:
        self.examples, self.rows = examples, rows

    def __len__(self) -> int:
        return len(self.examples) // self.rows

    def epoch(self, seed: int, epoch: int, start: int = 0):
        for k in range(start, len(self)):
            part = self.examples[k * self.rows : (k + 1) * self.rows]
            yield next(Buckets(part, self.rows).epoch(0, 0))


def test_accumulated_gradients_are_those_of_the_large_batch() -> None:
    """Sequences of many lengths: batches weigh by their steps, not alike."""
    examples, weights = documents(3, 9, 14, 2, 8, 8, 1, 11), []
    for rows, accumulate in ((8, 1), (4, 2), (2, 4), (1, 8)):
        m = model(3)
        fit(m, _Fixed(examples, rows), Settings(steps=3, lr=1e-2, accumulate=accumulate, clip=0.1), progress=False)
        weights.append([p.detach().clone() for p in m.parameters()])
    for other in weights[1:]:
        for ours, theirs in zip(weights[0], other, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"recurrent_dropout": 0.3}])
@pytest.mark.parametrize("stop", [3, 7, 10])
def test_a_resumed_run_carries_the_state_on(tmp_path, stop: int, options: dict[str, float]) -> None:
    """Bit for bit: the state that lanes carry is part of a checkpoint, the masks that it holds too."""
    settings = Settings(steps=12, lr=1e-2, validate_every=3, checkpoint_every=1)
    lanes = Lanes(documents(40, 30, 25), 3, 5)

    class Stopping(Lanes):
        def epoch(self, seed, epoch, start=0):
            for k, batch in enumerate(super().epoch(seed, epoch, start), start):
                if epoch * len(self) + k == stop:
                    raise KeyboardInterrupt
                yield batch

    whole = model(**options)
    fit(whole, lanes, settings, progress=False)
    broken = Stopping.__new__(Stopping)
    broken.__dict__.update(lanes.__dict__)
    first = model(**options)
    fit(first, broken, settings, folder=tmp_path, progress=False)
    second = model(seed=9, **options)
    fit(second, lanes, settings, folder=tmp_path, resume=True, progress=False)
    for ours, theirs in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_stride_longer_than_the_text() -> None:
    """What is left at the end of an epoch is learned from as it is."""
    m, lanes = model(), Lanes(documents(24), 4, 64, 32)
    (batch,) = lanes.epoch(0, 0)
    assert batch.x.shape[:2] == (1, 24)
    loss, state = m.carry(batch, None)
    assert torch.isfinite(loss)
    assert all(not leaf.requires_grad for leaf in tree.leaves(state))


def test_stacks_of_any_cell_carry() -> None:
    torch.manual_seed(0)
    m = Single(Stack(GRU(1, 4), LSTM(4, 3)), ClassHead(3, K)).double()
    examples = [Example(e.x.astype(np.float64), e.target) for e in documents(11, 6)]
    state = None
    for batch in Lanes(examples, 2, 3).epoch(0, 0):
        loss, state = m.carry(batch._replace(x=batch.x.double()), state)
        assert torch.isfinite(loss)
