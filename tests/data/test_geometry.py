"""Orders of points against brute force, at their edges, and fast enough to be drawn anew."""

from __future__ import annotations

import time
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.data.geometry import convex_hull, sorting, travelling_salesman
from clew.data.solvers import LARGEST_TOUR, hulls, tours
from clew.data.synthetic import UNSCORED
from clew.errors import ShapeError

DRAWN = [sorting, convex_hull, travelling_salesman]
GRID = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=9)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hull_by_force(points: list[tuple[float, float]]) -> list[int]:
    """A way from one point to another is an edge where no point is on its right, and none beyond its ends; the edges
    are walked from the corner with the lowest number."""
    first = [i for i, point in enumerate(points) if point not in points[:i]]
    if len(first) == 1:
        return first
    after = {}
    for i in first:
        for j in first:
            (x, y), (u, v) = points[i], points[j]
            turns = [(u - x) * (b - y) - (v - y) * (a - x) for a, b in points]
            within = [
                min(x, u) <= a <= max(x, u) and min(y, v) <= b <= max(y, v)
                for (a, b), turn in zip(points, turns, strict=True)
                if turn == 0
            ]
            if i != j and min(turns) >= 0 and all(within):
                after[i] = j
    hull = [min(after)]
    while after[hull[-1]] != hull[0]:
        hull.append(after[hull[-1]])
    return hull


def told(y_BN: torch.Tensor, lengths_B: torch.Tensor) -> list[list[int]]:
    rows = [row[:n] for row, n in zip(y_BN.tolist(), lengths_B.tolist(), strict=True)]
    assert (y_BN == UNSCORED).sum() == y_BN.numel() - lengths_B.sum()
    return rows


def length(points: np.ndarray, order: tuple[int, ...] | list[int]) -> float:
    path = points[[*order, order[0]]]
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


@pytest.mark.parametrize("draw", DRAWN)
def test_shapes_range_and_generator(draw):
    for N in (1, 2, 3, 7):
        x, y, *_ = draw(5, N, drawn(1))
        assert x.shape == (5, N, 1 if draw is sorting else 2)
        assert x.dtype == torch.float32
        assert y.shape == (5, N)
        assert y.dtype == torch.int64
        assert 0 <= x.min() <= x.max() < 1
    again = draw(5, 7, drawn(1))
    assert all(torch.equal(a, b) for a, b in zip(draw(5, 7, drawn(1)), again, strict=True))
    assert not torch.equal(draw(5, 7, drawn(2))[0], again[0])
    torch.manual_seed(3)
    first = draw(5, 7)[0]
    torch.manual_seed(3)
    assert torch.equal(draw(5, 7)[0], first)
    assert [part.shape[0] for part in draw(0, 4)] == [0] * len(again)


def test_sorting():
    x, y = sorting(50, 30, drawn(0))
    for numbers, order in zip(x[..., 0].tolist(), y.tolist(), strict=True):
        assert order == sorted(range(30), key=lambda i: (numbers[i], i))


@pytest.mark.parametrize("N", [1, 2, 3, 4, 5, 12])
def test_hulls_of_random_points(N):
    x, y, lengths = convex_hull(60, N, drawn(N))
    points = [[tuple(point) for point in row] for row in x.double().tolist()]
    assert told(y, lengths) == [hull_by_force(row) for row in points]


@settings(deadline=None, max_examples=150)
@given(GRID)
def test_hulls_with_equal_points_and_lines(points):
    y, lengths = hulls(torch.tensor([points], dtype=torch.float64))
    assert told(y, lengths) == [hull_by_force(points)]


def test_a_hull_by_hand():
    """A square with a point within, one within an edge, and a corner that stands twice."""
    points = [[0.5, 0.4], [1, 1], [0, 0], [0.5, 0], [0, 1], [1, 0], [1, 1]]
    y, lengths = hulls(torch.tensor([points]))
    assert told(y, lengths) == [[1, 4, 2, 5]]


def test_a_turn_that_is_only_just_one():
    """The product of two sides differs by 2^-48: float32 would take the three points for a line."""
    e = 2.0**-24
    a, b, c = [0.0, 0.0], [1 - e, 1 - 2 * e], [1 - 2 * e, 1 - 3 * e]
    assert float(np.float32(b[0]) * np.float32(c[1]) - np.float32(b[1]) * np.float32(c[0])) == 0.0
    for points, corners in (([a, b, c], [0, 2, 1]), ([a, c, b], [0, 1, 2]), ([a, b, a], [0, 1])):
        assert told(*hulls(torch.tensor([points], dtype=torch.float32))) == [corners]


@pytest.mark.parametrize("N", [1, 2, 3, 4, 5, 6, 7])
def test_tours_against_all_orders(N):
    x, y = travelling_salesman(12, N, drawn(N))
    orders = [(0, *rest) for rest in permutations(range(1, N))]
    for points, order in zip(x.double().numpy(), y.tolist(), strict=True):
        best = min(orders, key=lambda one: length(points, one))
        assert order == min(list(best), [0, *best[:0:-1]])


def test_tours_in_space_and_of_equal_points():
    points = torch.rand(8, 6, 3, generator=drawn(0))
    points[:, 4] = points[:, 1]
    points[0] = 0.5
    for row, order in zip(points.double().numpy(), tours(points).tolist(), strict=True):
        assert sorted(order) == list(range(6))
        assert order[0] == 0
        assert order[1] < order[-1]
        assert length(row, order) == pytest.approx(min(length(row, (0, *p)) for p in permutations(range(1, 6))))


def test_a_large_tour_that_is_known():
    """Points on a circle in a random order: the shortest tour goes round."""
    N = LARGEST_TOUR
    place = torch.stack([torch.randperm(N, generator=drawn(i)) for i in range(40)])
    angle = 2 * torch.pi * place / N + 0.1
    order = tours(torch.stack([angle.cos(), angle.sin()], -1))
    steps = place.gather(1, order).diff(dim=1) % N
    assert ((steps == 1).all(1) | (steps == N - 1).all(1)).all()


def test_tours_found_in_parts_are_those_found_one_by_one(monkeypatch):
    x, y = travelling_salesman(30, 6, drawn(0))
    monkeypatch.setattr("clew.data.solvers.AT_ONCE", 1 << 11)
    assert torch.equal(tours(x), y)
    assert torch.equal(torch.cat([tours(row[None]) for row in x]), y)


def test_drawn_anew_fast_enough():
    before = time.perf_counter()
    travelling_salesman(1000, 10, drawn(0))
    convex_hull(10_000, 20, drawn(0))
    sorting(10_000, 20, drawn(0))
    assert time.perf_counter() - before < 4, "it takes 0.5 s on a machine that does nothing else"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        *((lambda draw=draw: draw(2, 0), "at least 1") for draw in DRAWN),
        (lambda: travelling_salesman(2, LARGEST_TOUR + 1), f"at most {LARGEST_TOUR}"),
        (lambda: tours(torch.rand(2, 0, 2)), "at least 1"),
        (lambda: tours(torch.rand(2, 2)), r"\(B, N, I\)"),
        (lambda: hulls(torch.rand(2, 0, 2)), "at least 1"),
        (lambda: hulls(torch.rand(2, 4, 3)), "in the plane"),
    ],
)
def test_what_cannot_be_drawn_or_solved_is_refused(call, says):
    with pytest.raises(ShapeError, match=says):
        call()
