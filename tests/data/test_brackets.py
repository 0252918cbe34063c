"""Bracket strings: read by a list, exactly as long and as deep as asked for, none likelier than another."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clew.data.brackets import BALANCED, BROKEN, OPEN, brackets, judge, parity
from clew.data.synthetic import UNSCORED
from clew.errors import ConfigError, ShapeError


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def alike(rows: int, length: int, depth: int) -> tuple[Tensor, Tensor]:
    return torch.full((rows,), length), torch.full((rows,), depth)


def read(tokens: list[int]) -> list[int]:
    """What each prefix is, by a list."""
    answers, stack, broken = [], [], False
    for token in tokens:
        if token % 2 == 0:
            stack.append(token // 2)
        elif not stack or stack.pop() != token // 2:
            broken = True
        answers.append(BROKEN if broken else OPEN if stack else BALANCED)
    return answers


def depth_of(x_BT: Tensor) -> Tensor:
    return (1 - 2 * (x_BT % 2)).cumsum(1).max(1).values


@settings(deadline=None)  # others may keep the machine busy
@given(st.lists(st.lists(st.integers(0, 5), min_size=12, max_size=12), min_size=1, max_size=9))
def test_any_string_is_judged_as_a_list_would(rows):
    assert judge(torch.tensor(rows)).tolist() == [read(row) for row in rows]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 14)), max_size=30), st.integers(1, 3), st.integers(0, 99))
def test_strings_are_as_long_and_deep_as_asked_for(sizes, kinds, seed):
    depths = [depth for depth, _ in sizes]
    lengths = [2 * depth + 2 * more for depth, more in sizes]
    x_BT, y_BT = brackets(torch.tensor(lengths).long(), torch.tensor(depths).long(), kinds, drawn(seed))
    assert x_BT.shape == y_BT.shape == (len(sizes), max(lengths, default=0))
    assert x_BT.dtype == y_BT.dtype == torch.int64
    for x, y, length, depth in zip(x_BT.tolist(), y_BT.tolist(), lengths, depths, strict=True):
        assert y[:length] == read(x[:length])
        assert all(0 <= token < 2 * kinds for token in x)
        assert y[length:] == [UNSCORED] * (len(y) - length)
        if y[length - 1] != BROKEN:
            assert int(depth_of(torch.tensor([x[:length]]))) == depth


@pytest.mark.parametrize("kinds", [1, 2])
def test_half_of_them_are_balanced_and_the_others_break_anywhere_or_stay_open(kinds):
    x_BT, y_BT = brackets(*alike(4000, 60, 12), kinds, drawn(0))
    shares = torch.bincount(y_BT[:, -1], minlength=3) / 4000
    assert (shares - torch.tensor([0.5, 0.25, 0.25])).abs().max() < 0.03
    breaks = (y_BT == BROKEN).int().argmax(1)[y_BT[:, -1] == BROKEN]
    early, late = (breaks < 20).float().mean(), (breaks >= 40).float().mean()
    assert 0.2 < early < 0.8
    assert 0.2 < late < 0.8
    ends = (1 - 2 * (x_BT % 2)).sum(1)[y_BT[:, -1] == OPEN]
    assert set(ends.tolist()) == {2, 4, 6, 8, 10, 12}


def test_a_broken_string_is_one_change_away_from_a_balanced_one():
    def good(x: list[int]) -> bool:
        return read(x)[-1] == BALANCED and int(depth_of(torch.tensor([x]))) == 3

    x_BT, y_BT = brackets(*alike(600, 10, 3), 2, drawn(0))
    ways = Counter()
    for x in x_BT[y_BT[:, -1] == BROKEN].tolist():
        opened = [[*x[:t], x[t] - 1, *x[t + 1 :]] for t in range(10) if x[t] % 2]
        renamed = [[*x[:t], x[t] ^ 2, *x[t + 1 :]] for t in range(10)]
        swapped = [x[t:] + x[:t] for t in range(1, 10)]
        how = [name for name, mends in (("o", opened), ("r", renamed), ("s", swapped)) if any(map(good, mends))]
        assert how
        ways[how[0]] += 1
    assert min(ways["o"], ways["r"], ways["s"]) > 0.2 * sum(ways.values())


def test_every_string_is_as_likely():
    x_BT, y_BT = brackets(*alike(40_000, 8, 2), 2, drawn(0))
    counts = Counter(tuple(x) for x in x_BT[y_BT[:, -1] == BALANCED].tolist())
    # Of the 2^3 walks of length 8 that stay under 3 one stays under 2; each has 2^4 choices of kinds.
    assert len(counts) == 7 * 16
    expected = sum(counts.values()) / len(counts)
    assert max(abs(n - expected) for n in counts.values()) < 5 * expected**0.5
    x_BT, y_BT = brackets(*alike(40_000, 8, 4), 1, drawn(0))
    found = {tuple(x) for x in x_BT[y_BT[:, -1] == OPEN].tolist()}
    every = [x for x in product((0, 1), repeat=8) if read(list(x))[-1] == OPEN and depth_of(torch.tensor([x])) == 4]
    assert found == set(every)


def test_long_and_deep_ones_are_drawn():
    x_BT, y_BT = brackets(*alike(500, 200, 20), 2, drawn(0))
    assert (depth_of(x_BT[y_BT[:, -1] != BROKEN]) == 20).all()
    x_BT, y_BT = brackets(*alike(20, 200, 100), 1, drawn(0))  # one walk alone goes so high and comes back
    assert (depth_of(x_BT[y_BT[:, -1] == BALANCED]) == 100).all()


def test_parity_counts_ones():
    x_BT, y_BT = parity(500, 30, drawn(0))
    for x, y in zip(x_BT.tolist(), y_BT.tolist(), strict=True):
        assert y == [sum(x[: t + 1]) % 2 for t in range(30)]
    assert abs(x_BT.float().mean() - 0.5) < 0.02


@pytest.mark.parametrize("draw", [lambda g: brackets(*alike(9, 20, 4), 2, g), lambda g: parity(9, 20, g)])
def test_the_generator_alone_decides(draw):
    for one, same, other in zip(draw(drawn(1)), draw(drawn(1)), draw(drawn(2)), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("draw", "kind", "says"),
    [
        (lambda: brackets(*alike(2, 7, 1)), ShapeError, "no balanced string of 7 tokens"),
        (lambda: brackets(*alike(2, 8, 5)), ShapeError, "8 tokens is exactly 5 deep"),
        (lambda: brackets(*alike(2, 8, 0)), ShapeError, "exactly 0 deep"),
        (lambda: brackets(torch.tensor([2, 4]), torch.tensor([1])), ShapeError, r"\(2,\) and \(1,\)"),
        (lambda: brackets(*alike(2, 8, 2), 0), ConfigError, "at least 1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, kind, says):
    with pytest.raises(kind, match=says):
        draw()
