"""What may be chosen next.

forced       a prefix's unit is the only one, whatever else is asked for
least        no end before so many units
never        these units never
no_repeat    no n units in a row that the hypothesis already has (Paulus et al. 2017, arXiv:1705.04304, sec. 2.5)
allow        what a function of the units so far allows

R rows, M hypotheses of each, N = R M, V units, T choices so far, P units of a prefix
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from clew.errors import ConfigError, ShapeError

Allow = Callable[[Tensor, Tensor], Tensor]


class Constraints(NamedTuple):
    """The constraints that all rows share; those of a row move with it and are given to `apply`."""

    end: int
    never_n: Tensor
    least: int = 0
    no_repeat: int = 0
    allow: Allow | None = None

    def apply(
        self, logp_NV: Tensor, units_RMT: Tensor, row_R: Tensor, never_RV: Tensor | tuple, prefix_RP: Tensor | tuple
    ) -> Tensor:
        """Log-probabilities (N, V), -inf where a unit may not be chosen.

        Args:
            row_R: which rows of the batch these are.
            never_RV, prefix_RP: see `never_of` and `prefix_of`; `()` where there is none.
        """
        _, M, T = units_RMT.shape
        free_NV, units_NT = logp_NV, units_RMT.flatten(0, 1)
        closed_n = self.never_n
        if self.least > T:
            closed_n = torch.cat([closed_n, closed_n.new_tensor([self.end])])
        logp_NV = forbid(
            logp_NV, closed_n, never_RV if isinstance(never_RV, tuple) else never_RV.repeat_interleave(M, 0)
        )
        if 0 < self.no_repeat <= T:
            logp_NV = without_repeats(logp_NV, units_NT, self.no_repeat)
        if self.allow is not None:
            mask_NV = self.allow(units_NT, row_R.repeat_interleave(M))
            if mask_NV.shape != logp_NV.shape or mask_NV.dtype != torch.bool:
                got = f"{mask_NV.dtype} {tuple(mask_NV.shape)}"
                raise ShapeError(f"allow must give a bool mask of shape {tuple(logp_NV.shape)}, got {got}")
            logp_NV = logp_NV.masked_fill(~mask_NV, -torch.inf)
        if isinstance(prefix_RP, Tensor) and prefix_RP.shape[1] > T:
            forced_N1 = prefix_RP[:, T].repeat_interleave(M)[:, None]
            unit_N1 = forced_N1.clamp(min=0)
            only_NV = torch.full_like(logp_NV, -torch.inf).scatter(1, unit_N1, free_NV.gather(1, unit_N1))
            logp_NV = torch.where(forced_N1 >= 0, only_NV, logp_NV)
        return logp_NV


def without_repeats(logp_NV: Tensor, units_NT: Tensor, n: int) -> Tensor:
    """-inf for each unit that would end n units that already stand in a row in units (N, T), T at least n."""
    T = units_NT.shape[1]
    gram_NGn = units_NT.unfold(1, n, 1)
    again_NG = (gram_NGn[..., :-1] == units_NT[:, None, T - n + 1 :]).all(2)
    # The least of what is said of a unit counts, as it may follow the same units here and others there.
    said_NG = torch.where(again_NG, -torch.inf, torch.inf).to(logp_NV.dtype)
    return logp_NV.scatter_reduce(1, gram_NGn[..., -1], said_NG, "amin")


def forbid(logp_NV: Tensor, units_n: Tensor, mask_NV: Tensor | tuple) -> Tensor:
    """-inf for these units and where the mask, if there is one, holds."""
    if len(units_n):
        logp_NV = logp_NV.index_fill(1, units_n, -torch.inf)
    return logp_NV.masked_fill(mask_NV, -torch.inf) if isinstance(mask_NV, Tensor) else logp_NV


def never_of(never: Tensor | None, batch: int, size: int, device: torch.device) -> tuple[Tensor, Tensor | tuple]:
    """What is never chosen: units (n,) of every row, and a mask (B, V) or (); from either of them or None.

    Raises:
        ShapeError: it is neither.
        ConfigError: a unit outside the vocabulary.
    """
    none = torch.zeros(0, dtype=torch.int64, device=device)
    if never is None:
        return none, ()
    if never.dtype == torch.bool:
        if never.shape != (batch, size):
            raise ShapeError(f"never as a mask must be ({batch}, {size}), got {tuple(never.shape)}")
        return none, never.to(device)
    if never.ndim != 1 or never.is_floating_point():
        raise ShapeError(f"never must be units (n,) or a bool mask (batch, units), got {tuple(never.shape)}")
    _inside(never, 0, size, "never")
    return never.to(device, torch.int64), ()


def prefix_of(prefix: Tensor | None, batch: int, size: int, end: int, most_B: Tensor) -> Tensor | tuple:
    """Units (B, P) that come first, a negative number where the choice is free; () for none.

    Raises:
        ShapeError: it is not (B, P) whole numbers.
        ConfigError: a unit outside the vocabulary, the end, or more units than may be chosen.
    """
    if prefix is None:
        return ()
    if prefix.ndim != 2 or len(prefix) != batch or prefix.is_floating_point() or prefix.dtype == torch.bool:
        got = f"{prefix.dtype} {tuple(prefix.shape)}"
        raise ShapeError(f"a prefix must be whole numbers ({batch}, steps), got {got}", hint="-1 behind a shorter one")
    prefix = prefix.to(most_B.device, torch.int64)
    _inside(prefix, torch.iinfo(torch.int64).min, size, "prefix")
    if bool((prefix == end).any()):
        raise ConfigError(f"a prefix holds {end}, which is the end", hint="leave it out")
    place = torch.arange(1, prefix.shape[1] + 1, device=prefix.device)
    long_B = (place * (prefix >= 0)).amax(1) if prefix.shape[1] else most_B
    if bool((long_B > most_B).any()):
        raise ConfigError("a prefix is longer than the most that may be chosen", hint="raise most or cut the prefix")
    return prefix


def _inside(units: Tensor, low: int, size: int, name: str) -> None:
    if units.numel() and not low <= int(units.min()) <= int(units.max()) < size:
        raise ConfigError(f"{name} has a unit outside the vocabulary of {size}: units are 0 to {size - 1}")
