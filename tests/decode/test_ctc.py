"""Texts from paths: the search against adding up all paths, and streams against wholes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, product

import numpy as np
import pytest

from clew.decode.ctc import best_path, prefix_beam

M, V, BLANK = 4, 3, 0


def collapsed(path: Sequence[int]) -> tuple[int, ...]:
    return tuple(unit for unit, _ in groupby(path) if unit != BLANK)


def logp(steps: int = M, seed: int = 0) -> np.ndarray:
    scores = np.random.default_rng(seed).normal(0, 2, (steps, V))
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def of_all(steps: np.ndarray) -> dict[tuple[int, ...], float]:
    """The log-probability of every text, over all of its paths."""
    found: dict[tuple[int, ...], float] = {}
    for path in product(range(V), repeat=len(steps)):
        text, value = collapsed(path), sum(steps[t, unit] for t, unit in enumerate(path))
        found[text] = float(np.logaddexp(found.get(text, -np.inf), value))
    return found


class Bigrams:
    """A language model over the same units; a memory is the unit before."""

    def __init__(self) -> None:
        scores = np.random.default_rng(7).normal(0, 1, (V, V))
        self.table = scores - np.log(np.exp(scores).sum(1, keepdims=True))

    def begin(self) -> tuple[np.ndarray, int]:
        return self.table[0], 0

    def after(self, units: Sequence[int], memories: Sequence[int]) -> list[tuple[np.ndarray, int]]:
        assert len(units) == len(memories)
        return [(self.table[unit], unit) for unit in units]

    def end(self, following: np.ndarray) -> float:
        return float(following[0])

    def score(self, text: Sequence[int]) -> float:
        return float(sum(self.table[a, b] for a, b in zip([0, *text], [*text, 0], strict=True)))


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_search_adds_up_all_paths(seed: int) -> None:
    steps = logp(seed=seed)
    expected, found = of_all(steps), prefix_beam(steps, BLANK, width=1000, least=-100)
    assert {tuple(one.units) for one in found} == set(expected)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for one in found:
        assert one.score == one.logp == pytest.approx(expected[tuple(one.units)])


@pytest.mark.parametrize("seed", range(5))
def test_a_language_model_and_a_bonus_count(seed: int) -> None:
    steps, language = logp(seed=seed), Bigrams()
    found = prefix_beam(steps, BLANK, width=1000, least=-100, language=language, weight=0.7, bonus=0.3)
    for one in found:
        text = tuple(one.units)
        expected = of_all(steps)[text] + 0.7 * language.score(text) + 0.3 * len(text)
        assert one.score == pytest.approx(expected)


def test_narrow_searches_find_no_more_than_wide_ones() -> None:
    for seed in range(20):
        steps = logp(8, seed)
        scores = [prefix_beam(steps, BLANK, width=width)[0].logp for width in (1, 2, 8, 500)]
        assert scores[-1] == max(scores)
        assert len(prefix_beam(steps, BLANK, width=3)) <= 3


def test_the_best_path_in_pieces_is_that_of_the_whole() -> None:
    for seed in range(20):
        steps, random = logp(12, seed), np.random.default_rng(seed)
        whole, pieces, last, t = best_path(steps, BLANK), [], None, 0
        assert tuple(whole) == collapsed(steps.argmax(1).tolist())
        while t < len(steps):
            n = int(random.integers(0, 4))
            piece = steps[t : t + n]
            pieces += best_path(piece, BLANK, last)
            last = int(piece[-1].argmax()) if n else last
            t += n
        assert pieces == whole


def test_no_steps_are_an_empty_text() -> None:
    assert best_path(np.zeros((0, V)), BLANK) == []
    (one,) = prefix_beam(np.zeros((0, V)), BLANK)
    assert (one.units, one.score) == ([], 0.0)
