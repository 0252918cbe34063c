"""Steps h' = step(a, b, h), all of them together: joined in pairs, the pairs in pairs (Blelloch 1990, "Prefix sums and
their applications"). log2(T) rounds in place of T steps, and about twice the work.

It does for whatever makes two steps one: multiply and add, or add and maximum. Nothing is ever divided, so decays of 0,
below 0 or of 1 - 1e-7 are as good as any. (Where decays lie beyond 1, their product over many steps may overflow though
no state would.) A reset cuts with `where`, so that a NaN passes it in neither direction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from clew.ops import algebra


class Joining(NamedTuple):
    """What makes steps join: step(a2, b2, step(a1, b1, h)) = step(join(a1, a2), step(a2, b2, b1), h)."""

    step: Callable[[Tensor, Tensor, Tensor], Tensor]
    join: Callable[[Tensor, Tensor], Tensor]
    none: float  # a state that adds nothing

    def passed(self, x: Tensor, cut: Tensor | None) -> Tensor:
        return x if cut is None else x.masked_fill(cut, self.none)

    def states(self, a: Tensor, b: Tensor, cut: Tensor | None = None) -> Tensor:
        """All h[t] = step(a[t], b[t], h[t-1]), where nothing was before the first.

        Args:
            a, b: (..., T, N).
            cut: (..., T, 1) bool, where nothing passes from the step before.
        """
        T = b.shape[-2]
        if T == 1:
            return b
        if T % 2:  # the last step follows from all others
            cut_last = None if cut is None else cut[..., -1:, :]
            h = self.states(a[..., :-1, :], b[..., :-1, :], None if cut is None else cut[..., :-1, :])
            last = self.step(a[..., -1:, :], b[..., -1:, :], self.passed(h[..., -1:, :], cut_last))
            return torch.cat([h, last], -2)
        (a0, a1), (b0, b1) = _evens_and_odds(a), _evens_and_odds(b)
        cut0, cut1 = (None, None) if cut is None else _evens_and_odds(cut)
        pair_cut = None if cut0 is None or cut1 is None else cut0 | cut1
        pair_a = self.join(self.passed(a0, cut1), a1)
        odds = self.states(pair_a, self.step(a1, b1, self.passed(b0, cut1)), pair_cut)
        evens = b0
        if T > 2:
            before = self.passed(odds[..., :-1, :], None if cut0 is None else cut0[..., 1:, :])
            evens = torch.cat([b0[..., :1, :], self.step(a0[..., 1:, :], b0[..., 1:, :], before)], -2)
        return torch.stack([evens, odds], -2).flatten(-3, -2)


def _evens_and_odds(x: Tensor) -> tuple[Tensor, Tensor]:
    evens, odds = x.unflatten(-2, (-1, 2)).unbind(-2)
    return evens, odds


LINEAR = Joining(lambda a, b, h: torch.addcmul(b, a, h), torch.mul, 0.0)  # of complex numbers, too
MAXIMUM = Joining(algebra.maximum_step, torch.add, -torch.inf)
