"""Sequences made by rule: shapes, what stands where, that nothing is likelier than it should be, what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.data.synthetic import UNSCORED, induction, selective_copying
from clew.errors import ConfigError, ShapeError


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)  # others may keep the machine busy
@given(st.integers(0, 5), st.integers(0, 20), st.integers(0, 20), st.integers(3, 9), st.integers(0, 99))
def test_copying_asks_for_the_data_in_order(batch, tokens, noise, vocabulary, seed):
    length = tokens + noise
    x_BT, y_BT = selective_copying(batch, length, tokens, vocabulary, drawn(seed))
    assert x_BT.dtype == y_BT.dtype == torch.int64
    assert x_BT.shape == y_BT.shape == (batch, length + tokens)
    assert (x_BT[:, length:] == 1).all()
    assert (y_BT[:, :length] == UNSCORED).all()
    for read, asked in zip(x_BT[:, :length].tolist(), y_BT[:, length:].tolist(), strict=True):
        assert [token for token in read if token] == asked
        assert all(2 <= token < vocabulary for token in asked)


def test_copying_puts_every_kind_in_every_place_alike():
    x_BT, _ = selective_copying(20_000, 8, 2, 6, drawn(0))
    for token in range(2, 6):
        share_T = (x_BT[:, :8] == token).float().mean(0)
        assert (share_T - 2 / 8 / 4).abs().max() < 0.01, f"token {token}"
    both = (x_BT[:, 0] > 0) & (x_BT[:, 1] > 0)
    assert abs(both.float().mean() - 1 / 28) < 0.01, "two places of eight, each pair as likely"


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(3, 20), st.integers(2, 9), st.integers(0, 99))
def test_induction_asks_for_what_followed(batch, length, vocabulary, seed):
    x_BT, y_BT = induction(batch, length, vocabulary, drawn(seed))
    assert x_BT.dtype == y_BT.dtype == torch.int64
    assert x_BT.shape == y_BT.shape == (batch, length)
    assert (y_BT[:, :-1] == UNSCORED).all()
    for read, asked in zip(x_BT.tolist(), y_BT[:, -1].tolist(), strict=True):
        assert read.count(0) == 2
        assert read[-1] == 0
        assert read[read.index(0) + 1] == asked
        assert all(0 <= token < vocabulary for token in read)
        assert asked, "the follower is not the special token itself"


def test_induction_puts_the_special_token_everywhere_alike():
    x_BT, y_BT = induction(20_000, 7, 5, drawn(0))
    share_T = (x_BT[:, :-1] == 0).float().mean(0)
    assert (share_T[:5] - 1 / 5).abs().max() < 0.015
    assert share_T[5] == 0
    answers = torch.bincount(y_BT[:, -1], minlength=5) / len(y_BT)
    assert (answers[1:] - 1 / 4).abs().max() < 0.015


@pytest.mark.parametrize("draw", [lambda g: selective_copying(4, 9, 3, 8, g), lambda g: induction(4, 9, 8, g)])
def test_the_generator_alone_decides(draw):
    for one, same, other in zip(draw(drawn(1)), draw(drawn(1)), draw(drawn(2)), strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


def test_torch_leaves_unscored_steps_out():
    _, y_BT = induction(3, 9, 8, drawn(0))
    logits = torch.randn(3, 9, 8, generator=drawn(1))
    whole = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y_BT.flatten())
    torch.testing.assert_close(whole, torch.nn.functional.cross_entropy(logits[:, -1], y_BT[:, -1]))


@pytest.mark.parametrize(
    ("draw", "kind", "says"),
    [
        (lambda: selective_copying(1, 4, 5, 8), ShapeError, "5 tokens do not fit in 4 steps"),
        (lambda: selective_copying(1, 4, -1, 8), ShapeError, "-1 tokens"),
        (lambda: selective_copying(1, 4, 2, 2), ConfigError, "at least 3"),
        (lambda: induction(1, 2, 8), ShapeError, "at least 3"),
        (lambda: induction(1, 9, 1), ConfigError, "at least 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, kind, says):
    with pytest.raises(kind, match=says):
        draw()
