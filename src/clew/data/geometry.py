"""Sets of points and numbers made by rule, whose answer is an order of them: what pointer networks learn (Vinyals et
al. 2015, arXiv:1506.03134, section 3; sorting: Vinyals et al. 2016, arXiv:1511.06391, section 4.3).

Points are float32, uniform in the unit square; answers are numbers of points from 0, found in float64.

B sets, N points of each
"""

from __future__ import annotations

import torch
from torch import Tensor

from clew.data.solvers import hulls, tours
from clew.errors import ShapeError


def sorting(batch: int, numbers: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Numbers to be sorted.

    Args:
        batch: B, sets to draw.
        numbers: N of each, at least 1.
        generator: where they come from; torch's own when None.

    Returns:
        x (B, N, 1): uniform in [0, 1).
        y (B, N): int64, which number is the smallest, the second, ...; of equal ones the first comes first.

    Raises:
        ShapeError: less than 1 number.
    """
    x_BN1 = _uniform("sorting", batch, numbers, 1, generator)
    return x_BN1, x_BN1[..., 0].argsort(dim=1, stable=True)


def convex_hull(batch: int, points: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Points in the plane of which those on the convex hull are asked for.

    Args:
        batch: B, sets to draw.
        points: N of each, at least 1.
        generator: where they come from; torch's own when None.

    Returns:
        x (B, N, 2): uniform in [0, 1) x [0, 1).
        y (B, N): int64, the corners counter-clockwise from the one with the lowest number, UNSCORED behind the last.
        lengths (B,): the number of corners.

    Raises:
        ShapeError: less than 1 point.
    """
    x_BN2 = _uniform("convex_hull", batch, points, 2, generator)
    return x_BN2, *hulls(x_BN2)


def travelling_salesman(batch: int, points: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Points in the plane that the shortest round trip visits.

    Args:
        batch: B, sets to draw.
        points: N of each, 1 to 12: each answer is the best there is.
        generator: where they come from; torch's own when None.

    Returns:
        x (B, N, 2): uniform in [0, 1) x [0, 1).
        y (B, N): int64, the tour from point 0, in the direction in which the second point has a lower number than the
            last.

    Raises:
        ShapeError: less than 1 point, or more than 12.
    """
    x_BN2 = _uniform("travelling_salesman", batch, points, 2, generator)
    return x_BN2, tours(x_BN2)


def _uniform(name: str, batch: int, points: int, width: int, generator: torch.Generator | None) -> Tensor:
    if points < 1:
        raise ShapeError(f"{name}: each set needs at least 1 point, got {points}")
    return torch.rand(batch, points, width, generator=generator)
