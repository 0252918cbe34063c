"""Training windows: each once an epoch, in an order that a resumed run finds again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.data.windows import MOST_BATCHES, Windows
from clew.errors import DataError


def rising(*lengths: int) -> list[np.ndarray]:
    """Series whose values say which they are and when: 1000 i + t."""
    return [(1000 * i + np.arange(n, dtype=np.float32))[:, None] for i, n in enumerate(lengths)]


def wholes(batches) -> list[torch.Tensor]:
    """The windows with what follows them, (B, W + K, C)."""
    return [torch.cat([batch.x, batch.target[:, -1]], 1) for batch in batches]


@settings(deadline=None)  # others may keep the machine busy
@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 6), st.integers(1, 3), st.integers(1, 9))
def test_every_window_once(lengths, window, ahead, batch):
    size = window + ahead
    if max(lengths) < size:
        lengths = [*lengths, size]
    windows = Windows(rising(*lengths), window, ahead, batch)
    batches = wholes(windows.epoch(0, 0))
    assert len(batches) == len(windows)
    assert all(len(b) == batch for b in batches[:-1])
    seen = torch.cat(batches)[..., 0]
    assert seen.shape[1] == size
    assert (seen.diff(dim=1) == 1).all(), "a window is of one series, without gaps"
    expected = [1000 * i + t for i, n in enumerate(lengths) for t in range(n - size + 1)]
    assert sorted(int(first) for first in seen[:, 0]) == expected


def test_the_order_follows_from_seed_and_epoch_alone():
    windows = Windows(rising(90, 50), 10, 2, 8)
    torch.manual_seed(1)
    one = torch.cat(wholes(windows.epoch(3, 5)))
    torch.manual_seed(2)
    assert torch.equal(one, torch.cat(wholes(Windows(rising(90, 50), 10, 2, 8).epoch(3, 5))))
    assert not torch.equal(one, torch.cat(wholes(windows.epoch(3, 6))))
    assert not torch.equal(one, torch.cat(wholes(windows.epoch(4, 5))))


@pytest.mark.parametrize("start", [0, 1, 7, 14, 15])
def test_a_resumed_epoch_sees_the_same_batches(start):
    windows = Windows(rising(90, 50), 10, 2, 8)
    whole, rest = wholes(windows.epoch(3, 5)), wholes(windows.epoch(3, 5, start=start))
    assert len(rest) == len(whole) - start
    assert all(torch.equal(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_a_long_series_is_sampled_without_repeats():
    windows = Windows(rising(900), 4, 1, 2)
    assert len(windows) == MOST_BATCHES
    first, second = (torch.cat(wholes(windows.epoch(0, e)))[:, 0, 0] for e in (0, 1))
    assert len(first.unique()) == len(first) == 2 * MOST_BATCHES
    assert set(first.tolist()) != set(second.tolist())


def test_batches_are_copies():
    series = rising(20)
    batch = next(Windows(series, 4, 1, 8).epoch(0, 0))
    assert batch.x.dtype == batch.target.dtype == torch.float32
    batch.x.fill_(-1)
    assert series[0].min() == 0


@pytest.mark.parametrize(
    ("length", "ahead", "hint"), [(10, 3, "train.window=7 or less"), (3, 3, "shorter --horizon"), (0, 1, "--horizon")]
)
def test_too_short(length, ahead, hint):
    with pytest.raises(DataError, match=rf"needs 8 \+ {ahead} steps, the longest training part has {length}") as caught:
        Windows(rising(length), 8, ahead, 4)
    assert caught.value.hint is not None
    assert hint in caught.value.hint
    if length > ahead:
        assert len(Windows(rising(length), length - ahead, ahead, 4)) == 1, "the hint is true"


def test_short_series_beside_a_long_one_give_no_window():
    assert Windows(rising(3, 12, 2), 8, 2, 4).windows == 3
