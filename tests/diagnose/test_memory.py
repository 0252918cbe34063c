"""How far a model remembers, where that is known: delay lines, pinned forget gates, a copy task that was learned."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from known import Delay, pinned
from torch import nn

from clew.cells import GRU, LSTM, Bidirectional, BothEnds, Encoder, MeanPool, MinGRU, Recurrence, Stack
from clew.data.batch import Example
from clew.diagnose import flow
from clew.diagnose.capacity import capacity, rounded
from clew.diagnose.examine import examine
from clew.diagnose.information import dependency, to_symbols
from clew.diagnose.probe import pieces, probe
from clew.diagnose.window import suggested
from clew.models import Single
from clew.models.heads.classes import ClassHead


def noise(B: int, T: int, size: int) -> torch.Tensor:
    return torch.randn(B, T, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("steps", [0, 1, 7, 40, 100])
def test_a_delay_line_remembers_its_length(steps: int) -> None:
    body, x = Delay(2, steps), noise(4, 128, 2)
    (curve,) = flow.of_inputs(body, x).values()
    assert flow.horizon(range(128), curve) == steps
    lags = flow.lags_up_to(127)
    assert flow.horizon(lags, flow.felt(body, lambda y: y, x, lags)) == steps


@pytest.mark.parametrize("keep", [0.7, 0.9, 0.95])
def test_a_pinned_gate_remembers_as_long_as_it_says(keep: float) -> None:
    body, x = pinned(keep), noise(16, 200, 2)
    expected = math.log(100) / -math.log(keep)
    (curve,) = flow.of_inputs(body, x).values()
    assert flow.horizon(range(200), curve) == pytest.approx(expected, rel=0.1)
    lags, expected = flow.lags_up_to(199), math.log(10) / -math.log(keep)
    felt = flow.felt(body, lambda y: y, x, lags)
    assert flow.horizon(lags, felt, flow.FELT) == pytest.approx(expected, rel=0.1)


def test_of_states_is_the_gradient_of_the_states() -> None:
    torch.manual_seed(0)
    body, x = Stack(GRU(3, 5), MinGRU(5, 4)), noise(2, 12, 3)
    mix = torch.randn(4)
    found = flow.of_states(body, x, [1, 5, 12], lambda y: y @ mix)
    assert list(found) == ["1 gru", "2 mingru"]
    state = body.init_state(2)
    for x_BI in x[:, :7].unbind(1):
        _, state = body.step(x_BI, state)
    h = state[1].detach().requires_grad_()
    y, after = None, (state[0], h)
    for x_BI in x[:, 7:].unbind(1):
        y, after = body.step(x_BI, after)
    assert y is not None
    gradient = torch.autograd.grad((y @ mix).sum(), h)[0]
    assert found["2 mingru"][1] == pytest.approx(float(gradient.square().sum(-1).mean().sqrt()), rel=1e-4)


def test_horizons_and_lags() -> None:
    assert flow.horizon([0, 1, 2], [0.0, 0.0, 0.0]) == 0
    assert flow.horizon([], []) == 0
    assert flow.horizon([0, 1, 2, 3], [1.0, 0.5, 0.009, 0.001]) == 1
    assert math.isinf(flow.horizon([0, 1, 2], [1.0, 1.0, 1.0]))
    assert flow.horizon([0], [1.0]) == 0
    assert math.isinf(flow.horizon([0, 1], [math.nan, 1.0]))  # what overflows has not vanished
    for most in (0, 1, 128, 129, 1000):
        lags = flow.lags_up_to(most)
        assert lags[0] == 0
        assert lags[-1] == most
        assert lags == sorted(set(lags))


def test_information_finds_the_step_that_an_answer_asks_for() -> None:
    symbols = np.random.default_rng(0).integers(0, 4, (200, 60))
    answers = np.zeros_like(symbols)
    answers[:, 12:] = symbols[:, :-12]
    assert dependency(symbols, 40, answers).horizon() == pytest.approx(12)
    assert dependency(symbols, 40).horizon() == 0
    assert dependency(symbols[:1, :2], 40).horizon() == 0
    constant = np.ones((50, 40), dtype=np.int64)
    assert dependency(constant, 20).horizon() == 0


def test_a_window_is_wide_enough_and_says_why() -> None:
    assert suggested(30, 200, 1000).steps == 32
    assert "carry information to 30" in suggested(30, 200, 1000).why
    assert "gradients reach 40" in suggested(300, 40, 1000).why
    assert suggested(math.inf, math.inf, 500).steps == 500
    assert suggested(0, 10, 500).steps == 32
    assert suggested(5, 5, 6).steps == 6


def test_capacity_is_what_rounding_leaves() -> None:
    """Targets that are one of 4 values of one number need 2 bits of it; a second number says nothing."""
    c = torch.rand(400, 2, generator=torch.Generator().manual_seed(0))
    c[:, 0] = (c[:, 0] * 4).floor() / 3
    target = (c[:, 0] * 3).round()

    def said(given: torch.Tensor) -> torch.Tensor:
        right = ((given[:, 0] * 3).round() == target).double()
        return (0.999 * right + 1e-4).log()[:, None]

    found = capacity(c, said)
    assert found.bits == 2
    assert found.held == 4
    assert found.needed == pytest.approx(2, abs=0.05)
    assert torch.equal(rounded(c, 2)[:, 0], c[:, 0])
    assert capacity(torch.zeros(8, 2), lambda given: torch.zeros(8, 3)).needed == 0


def test_pieces_are_of_one_length() -> None:
    examples = [Example(np.zeros((n, 1)), np.zeros((n, 1))) for n in (3, 5, 400, 40)]
    lengths = {len(piece.x) for piece in pieces(examples, 64, 10)}
    assert len(lengths) == 1
    assert len(pieces(examples[2:3], 256, 32)) >= 8
    assert len(pieces(examples * 30, 4, 7)) == 7


def test_models_that_are_not_known_or_too_small_are_left_alone() -> None:
    model = Single(GRU(1, 4), ClassHead(4, 3))
    one = [Example(np.zeros((1, 1), np.float32), np.zeros(1, np.int64))] * 4
    assert probe(model, []) is None
    assert examine(model, one) is None
    assert examine(nn.Linear(1, 1), one) is None


@pytest.mark.parametrize(
    "body",
    [
        Stack(GRU(1, 6), MeanPool(6)),
        Stack(Bidirectional(GRU(1, 6), GRU(1, 6)), BothEnds(6, 6)),
        Stack(Stack(LSTM(1, 6), GRU(6, 6)), MinGRU(6, 6)),
        GRU(1, 6, recurrent_dropout=0.3, zoneout=0.2),
    ],
    ids=["pooled", "bidirectional", "nested", "masked"],
)
def test_bodies_of_every_shape(body: Recurrence | Encoder) -> None:
    """A pool, through which every step is one step away, does not hide how far the recurrence reaches."""
    torch.manual_seed(0)
    model = Single(body, ClassHead(body.output_size, 3))
    x = np.random.default_rng(0).normal(size=(12, 150, 1)).astype(np.float32)
    found = examine(model, [Example(row, np.full(150, i % 3)) for i, row in enumerate(x)])
    assert found is not None
    assert math.isfinite(found.reach)
    assert found.felt if isinstance(body, Recurrence) else not found.felt
    for layer in found.layers:
        assert all(exponent < 0 for exponent in layer.spectrum.exponents)
    if isinstance(body, GRU):
        assert body.recurrent_dropout == 0.3  # looking at a model leaves it as it was


def test_data_reach_as_far_as_what_stands_behind_a_gap() -> None:
    draws = np.random.default_rng(0)
    x = draws.integers(0, 3, (300, 120))
    answers = np.where(draws.random(x.shape) < 0.5, np.roll(x, 1, 1), np.roll(x, 50, 1))
    assert dependency(x, 60, answers).horizon() == 50


def test_rare_events_and_many_words_are_symbols_too() -> None:
    draws = np.random.default_rng(0)
    events = (draws.random((40, 300)) < 0.03).astype(np.float32)
    answers = np.roll(events, 5, 1)
    assert dependency(events, 20, answers).horizon() == 5
    words = draws.zipf(1.3, (100, 200)).clip(max=50_000)
    assert dependency(words, 20, np.roll(words, 3, 1)).horizon() == 3
    assert len(np.unique(to_symbols(words))) <= 64
    assert dependency(words, 20).horizon() == 0


def test_a_season_and_a_trend_do_not_end() -> None:
    t = np.arange(600)
    noise = 0.1 * np.random.default_rng(0).normal(size=600)
    assert math.isinf(dependency((0.02 * t + np.sin(t * np.pi / 6) + noise)[None].reshape(4, 150), 60).horizon())
    assert math.isinf(dependency(np.sin(t * np.pi / 6) + noise, 60).horizon())
    assert dependency(np.random.default_rng(0).normal(size=(4, 150)), 60).horizon() == 0
