"""The rows of a search that are not done yet, and what each of them carries.

B rows, R of them running, M open hypotheses of each, V units, T choices so far, P units of a prefix
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from clew.decode import pool
from clew.decode.constraints import prefix_of
from clew.decode.pool import Pool
from clew.errors import ConfigError, ShapeError


class Running(NamedTuple):
    """A tree, so that rows leave it as they leave a state."""

    row_R: Tensor  # which rows of the batch these are
    most_R: Tensor
    never_RV: Tensor | tuple  # () where there is none
    prefix_RP: Tensor | tuple
    ended: Pool
    total_RM: Tensor  # float64 log-probabilities of the open hypotheses; -inf where a slot is empty
    units_RMT: Tensor


def begin(
    logp_BV: Tensor,
    most: int | Tensor,
    nbest: int,
    end: int,
    least: int,
    never_BV: Tensor | tuple,
    prefix: Tensor | None,
) -> Running:
    """All rows, each with one hypothesis that has chosen nothing.

    Raises:
        ShapeError, ConfigError: what is asked for does not fit or is impossible.
    """
    (B, V), device = logp_BV.shape, logp_BV.device
    most_B = _most_of(most, B, device)
    if not 0 <= end < V:
        raise ConfigError(f"end must be one of the {V} units that are predicted, 0 to {V - 1}, got {end}")
    if B and least > int(most_B.min()):
        raise ConfigError(f"least is {least} units, but most is {int(most_B.min())} choices", hint="raise most")
    return Running(
        torch.arange(B, device=device),
        most_B,
        never_BV,
        prefix_of(prefix, B, V, end, most_B),
        pool.empty(B, nbest, device),
        torch.zeros(B, 1, dtype=torch.float64, device=device),
        torch.zeros(B, 1, 0, dtype=torch.int64, device=device),
    )


def check_counts(at_least: int, **counts: object) -> None:
    """Raise ConfigError unless all are whole numbers of at least so much."""
    for name, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < at_least:
            raise ConfigError(f"{name} must be a whole number of at least {at_least}, got {count!r}")


def _most_of(most: int | Tensor, batch: int, device: torch.device) -> Tensor:
    most_B = torch.as_tensor(most, device=device)
    if most_B.is_floating_point() or most_B.dtype == torch.bool or most_B.shape not in ((), (batch,)):
        raise ShapeError(f"most must be a whole number, or whole numbers ({batch},), got {most!r}")
    if most_B.numel() and int(most_B.min()) < 1:
        raise ConfigError(f"most must be at least 1, got {int(most_B.min())}", hint="choosing the end is a choice too")
    return most_B.to(torch.int64).expand(batch)
