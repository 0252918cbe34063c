"""The best hypotheses that have ended, a fixed number for each row.

R rows, L kept of each, T choices
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clew import tree

NOTHING, UNFINISHED, FINISHED = 0, 1, 2


class Hypothesis(NamedTuple):
    """A sequence that a search found.

    units: what was chosen, without the end.
    score: what it is ranked by: the log-probability after the length penalty, and coverage.
    logp: its log-probability, in nats, the end's among it where it is finished.
    finished: it chose the end; else it came to the most that it may have, or could go nowhere.
    """

    units: tuple[int, ...]
    score: float
    logp: float
    finished: bool


class Pool(NamedTuple):
    """What is known of each hypothesis; a tree, so rows leave it as they leave a state."""

    rank_RL: Tensor  # NOTHING, UNFINISHED or FINISHED
    score_RL: Tensor  # float64
    logp_RL: Tensor  # float64
    length_RL: Tensor  # units, without the end
    units_RLT: Tensor  # what stands behind the length means nothing


def empty(rows: int, nbest: int, device: torch.device) -> Pool:
    low = torch.full((rows, nbest), -torch.inf, dtype=torch.float64, device=device)
    zero = torch.zeros(rows, nbest, dtype=torch.int64, device=device)
    return Pool(zero, low, low, zero, zero.new_zeros(rows, nbest, 0))


def insert(pool: Pool, new: Pool) -> Pool:
    """The best of both, as many as the pool holds: finished ones first, then by score, of equal ones the older."""
    kept, T = pool.rank_RL.shape[1], new.units_RLT.shape[2]
    pool = pool._replace(units_RLT=F.pad(pool.units_RLT, (0, T - pool.units_RLT.shape[2])))
    both: Pool = tree.map(lambda old, fresh: torch.cat([old, fresh], 1), pool, new)
    order = both.score_RL.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, both.rank_RL.gather(1, order).argsort(dim=1, descending=True, stable=True))[:, :kept]

    def pick(leaf: Tensor) -> Tensor:
        return leaf.gather(1, order if leaf.ndim == 2 else order[:, :, None].expand(-1, -1, T))

    return tree.map(pick, both)


def hypotheses(pool: Pool) -> list[list[Hypothesis]]:
    """What each row holds, best first."""
    rows = zip(*(leaf.tolist() for leaf in pool), strict=True)
    return [
        [
            Hypothesis(tuple(units[:length]), score, logp, rank == FINISHED)
            for rank, score, logp, length, units in zip(*row, strict=True)
            if rank != NOTHING
        ]
        for row in rows
    ]
