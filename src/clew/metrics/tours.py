"""How long round trips are, beside the shortest.

B rows, N points; any number of dimensions
"""

from __future__ import annotations

import numpy as np


def tour_length(points_BNI: np.ndarray, order_BN: np.ndarray) -> np.ndarray:
    """The length (B,) of the closed tour that visits points (B, N, I) in an order (B, M) of their numbers from 0.

    Infinite where the order does not hold each number once: that is no tour.
    """
    points, order = np.asarray(points_BNI, dtype=np.float64), np.asarray(order_BN)
    B, N = points.shape[:2]
    if order.shape[1] != N:
        return np.full(B, np.inf)
    whole_B = (np.sort(order, 1) == np.arange(N)).all(1)
    path_BNI = np.take_along_axis(points, np.where(whole_B[:, None], order, 0)[:, :, None], 1)
    length_B = np.linalg.norm(path_BNI - np.roll(path_BNI, -1, 1), axis=-1).sum(1)
    return np.where(whole_B, length_B, np.inf)


def length_ratio(points_BNI: np.ndarray, order_BN: np.ndarray, best_BN: np.ndarray) -> np.ndarray:
    """How many times as long as the best tour each is, (B,): 1 is optimal, infinity no tour (see `tour_length`).

    Where all points are one, every tour has the length 0 and the ratio 1.
    """
    length_B, best_B = tour_length(points_BNI, order_BN), tour_length(points_BNI, best_BN)
    assert np.isfinite(best_B).all(), "the best order is a tour"
    return np.divide(length_B, best_B, out=np.where(np.isfinite(length_B), 1.0, np.inf), where=best_B > 0)
