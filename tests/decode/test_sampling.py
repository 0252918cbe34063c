"""Sampling draws what it may, as often as it should."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import stats
from toys import CELLS, Table, begun, single

from clew import tree
from clew.decode import choose, sample
from clew.errors import ConfigError

P = torch.tensor([[0.05, 0.4, 0.1, 0.02, 0.25, 0.18]])
DRAWS = 20_000


def draw(n: int = DRAWS, p: torch.Tensor = P, seed: int = 0, **options) -> torch.Tensor:
    return choose(p.double().log().expand(n, -1), torch.Generator().manual_seed(seed), **options)


def expected(kept: set[int], temperature: float = 1.0) -> list[float]:
    weight = [float(p) ** (1 / temperature) if unit in kept else 0.0 for unit, p in enumerate(P[0])]
    return [w / sum(weight) for w in weight]


CASES = {
    "as they are": ({}, {0, 1, 2, 3, 4, 5}),
    "warm": ({"temperature": 2.0}, {0, 1, 2, 3, 4, 5}),
    "cold": ({"temperature": 0.4}, {0, 1, 2, 3, 4, 5}),
    "top_k": ({"top_k": 3}, {1, 4, 5}),
    "top_k of one": ({"top_k": 1}, {1}),
    "top_k of all": ({"top_k": 99}, {0, 1, 2, 3, 4, 5}),
    "top_p, reached by two": ({"top_p": 0.6}, {1, 4}),
    "top_p, just beyond three": ({"top_p": 0.84}, {1, 2, 4, 5}),
    "top_p, the first alone": ({"top_p": 0.01}, {1}),
    "min_p": ({"min_p": 0.3}, {1, 4, 5}),
    "min_p of one": ({"min_p": 1.0}, {1}),
    "min_p, small": ({"min_p": 0.1}, {0, 1, 2, 4, 5}),
    "top_k and min_p": ({"top_k": 4, "min_p": 0.5}, {1, 4}),
    "top_p and top_k": ({"top_p": 0.7, "top_k": 5}, {1, 4, 5}),
    "min_p, warm": ({"min_p": 0.45, "temperature": 2.0}, {1, 2, 4, 5}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_drawn_is_what_may_be_and_as_often(name: str) -> None:
    """In 20,000 draws each unit that may be is drawn; a chi-square test of their counts does not reject at 0.001."""
    options, kept = CASES[name]
    counts = torch.bincount(draw(**options), minlength=6)
    assert set(counts.nonzero()[:, 0].tolist()) == kept
    if len(kept) > 1:
        p = [q * DRAWS for q in expected(kept, options.get("temperature", 1.0)) if q]
        assert stats.chisquare(counts[counts > 0].tolist(), p).pvalue > 1e-3


def test_the_chi_square_test_can_fail() -> None:
    counts = torch.bincount(draw(temperature=1.15), minlength=6)
    assert stats.chisquare(counts.tolist(), [q * DRAWS for q in expected(set(range(6)))]).pvalue < 1e-6


def test_of_equal_units_the_lower_ones_stay() -> None:
    even = torch.full((1, 8), 0.125)
    assert set(draw(2000, even, top_k=3).tolist()) == {0, 1, 2}
    assert set(draw(2000, even, top_p=0.3).tolist()) == {0, 1, 2}
    assert set(draw(2000, even, min_p=1.0).tolist()) == set(range(8))
    assert draw(1, even, temperature=0.0).tolist() == [0]


def test_a_tiny_temperature_is_the_likeliest() -> None:
    assert set(draw(500, temperature=1e-320).tolist()) == {1}


def test_what_cannot_be_drawn_is_refused() -> None:
    for options, says in (
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"min_p": math.nan}, "min_p"),
        ({"p": torch.tensor([[0.5, math.nan]])}, "NaN"),
        ({"p": torch.zeros(1, 3)}, "forbid fewer units"),
        ({"p": torch.zeros(1, 3), "temperature": 0.0}, "forbid fewer units"),
    ):
        with pytest.raises(ConfigError, match=says):
            draw(3, **options)


@pytest.mark.parametrize("cell", CELLS)
def test_the_same_seed_draws_the_same_units(cell: str) -> None:
    model = single(cell, 9, seed=1)
    logp, state = begun(model, 4)

    def stream(seed: int) -> list[list[int]]:
        drawn = sample(model, logp, state, seed, never=torch.tensor([2, 7]), temperature=1.5, min_p=0.01)
        return [unit.tolist() for unit in itertools.islice(drawn, 12)]

    first = stream(3)
    assert first == stream(3)
    assert first != stream(4)
    assert not {2, 7} & {unit for units in first for unit in units}


def test_each_draw_is_the_next_input_and_context_is_seen() -> None:
    model = Table(6, 0)
    logp, state = model.begin(3)
    context = torch.tensor([0, 5, 9])
    drawn = torch.stack(list(itertools.islice(sample(model, logp, state, 1, context=context), 9)), 1)
    assert len(model.rows) == 8, "a stream draws no further than it is asked"
    generator, at, units = torch.Generator().manual_seed(1), logp, []
    for _ in range(9):
        units.append(choose(at, generator))
        at, state = model.step(units[-1][:, None], state, context)
    assert torch.equal(drawn, torch.stack(units, 1))
    plain = torch.stack(list(itertools.islice(sample(model, logp, model.begin(3)[1], 1), 9)), 1)
    assert not torch.equal(drawn, plain)


def test_units_may_be_forbidden_by_row() -> None:
    model = Table(6, 0)
    logp, state = model.begin(2)
    never = torch.tensor([[True, False, True, False, False, False], [False, True, False, True, True, True]])
    drawn = torch.stack(list(itertools.islice(sample(model, logp, state, never=never), 60)), 1)
    assert set(drawn[0].tolist()) == {1, 3, 4, 5}
    assert set(drawn[1].tolist()) == {0, 2}
    assert tree.rows(state) == 2
