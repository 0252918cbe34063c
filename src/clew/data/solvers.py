"""The answers to geometric questions: which points are the corners of a convex hull, which round trip is the shortest.

B sets, N points of each, I coordinates
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clew.data.synthetic import UNSCORED
from clew.errors import ShapeError

LARGEST_TOUR = 12  # points: work and memory grow as N^2 2^N
AT_ONCE = 1 << 23  # lengths of ways that the search for tours holds at once


def hulls(points_BN2: Tensor) -> tuple[Tensor, Tensor]:
    """Convex hulls: corners and their number, as `convex_hull` gives them (gift wrapping: Jarvis 1973).

    A point within an edge is no corner, and of equal points the one with the lowest number counts; so points on a line
    have two corners and equal ones one. Of points as `torch.rand` draws them in float32, multiples of 2^-24 in [0, 1),
    each turn is told without rounding.

    Raises:
        ShapeError: no points (B, N, 2), or none in a set.
    """
    points = _checked("hulls", points_BN2)
    B, N = points.shape[:2]
    if points.shape[2] != 2:
        raise ShapeError(f"hulls: points must be in the plane, (B, N, 2), got {tuple(points.shape)}")
    rows = np.arange(B)
    begin = np.lexsort((points[..., 1], points[..., 0]))[:, 0]  # the leftmost, of several the lowest: a corner
    corners, lengths = np.full((B, N), UNSCORED), np.zeros(B, dtype=np.int64)
    at, open_B = begin, np.ones(B, dtype=bool)
    for corner in range(N):
        corners[open_B, corner] = at[open_B]
        lengths += open_B
        at = _wrapped(points, at)
        open_B &= (points[rows, at] != points[rows, begin]).any(1)
        if not open_B.any():
            break
    inside = np.arange(N) < lengths[:, None]
    first = np.where(inside, corners, N).argmin(1)
    turned = (np.arange(N) + first[:, None]) % lengths[:, None]
    corners = np.where(inside, np.take_along_axis(corners, turned, 1), UNSCORED)
    return torch.from_numpy(corners), torch.from_numpy(lengths)


def _wrapped(points_BN2: np.ndarray, at_B: np.ndarray) -> np.ndarray:
    """The next corners (B,) counter-clockwise: all points are on the left of the way there, or on it."""
    rows = np.arange(len(points_BN2))
    away_BN2 = points_BN2 - points_BN2[rows, at_B][:, None]
    best_B, best_B2 = at_B, np.zeros((len(rows), 2))
    for j in range(points_BN2.shape[1]):
        x, y = away_BN2[:, j, 0], away_BN2[:, j, 1]
        turn = best_B2[:, 0] * y - best_B2[:, 1] * x  # below 0: the point is on the right
        farther = np.abs(x) + np.abs(y) > np.abs(best_B2).sum(1)  # on one line as good as the distance
        better = (turn < 0) | ((turn == 0) & farther)
        best_B, best_B2 = np.where(better, j, best_B), np.where(better[:, None], away_BN2[:, j], best_B2)
    return best_B


def tours(points_BNI: Tensor) -> Tensor:
    """Shortest round trips, (B, N) int64, as `travelling_salesman` gives them, of points in any number of dimensions
    (dynamic programming over sets: Held & Karp 1962, J. SIAM 10(1); Bellman 1962, J. ACM 9(1)).

    Raises:
        ShapeError: less than 1 point, or more than 12.
    """
    points = _checked("tours", points_BNI)
    N = points.shape[1]
    if N > LARGEST_TOUR:
        what = f"tours: the shortest of {N} points is not searched for, as each point more doubles the work"
        raise ShapeError(what, hint=f"take at most {LARGEST_TOUR} points")
    at_once = max(1, AT_ONCE // (N << N))
    found = [_tours(points[i : i + at_once]) for i in range(0, len(points), at_once)]
    return torch.from_numpy(np.concatenate(found)) if found else torch.zeros(0, N, dtype=torch.int64)


def _tours(points_BNI: np.ndarray) -> np.ndarray:
    """length[set, j, b] is the shortest way from point 0 through all of a set of the others that ends in its j."""
    B, N = points_BNI.shape[:2]
    distance = np.linalg.norm(points_BNI[:, :, None] - points_BNI[:, None], axis=-1).transpose(1, 2, 0)
    home, between = distance[0, 1:], distance[1:, 1:]
    others, bits = np.arange(N - 1), 1 << np.arange(N - 1)
    length = np.full((1 << (N - 1), N - 1, B), np.inf)
    length[bits, others] = home
    for chosen in range(1, 1 << (N - 1)):
        ends = others[(chosen & bits) > 0]
        if len(ends) > 1:  # the way to an end comes from another point of the set
            length[chosen, ends] = (length[chosen ^ bits[ends]] + between[ends]).min(1)
    order, rows = np.zeros((B, N), dtype=np.int64), np.arange(B)
    left, back = np.full(B, (1 << (N - 1)) - 1), home.T
    for place in range(N - 1, 0, -1):
        end = (length[left, :, rows] + back).argmin(1)
        order[:, place] = end + 1
        left, back = left ^ bits[end], between[end, :, rows]
    backwards_B = order[:, 1 % N] > order[:, -1]
    return np.where(backwards_B[:, None], np.roll(order[:, ::-1], 1, 1), order)


def _checked(name: str, points: Tensor) -> np.ndarray:
    if points.ndim != 3 or points.shape[1] < 1:
        raise ShapeError(f"{name}: points must be (B, N, I) with N at least 1, got {tuple(points.shape)}")
    return points.detach().double().cpu().numpy()
