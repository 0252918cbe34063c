"""Recurrences side by side over the same input.

y[t] = [first(x)[t]; second(x)[t]; ...]                            state: theirs, in their order
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from clew.cells.base import Recurrence
from clew.errors import ShapeError
from clew.tree import State


class Parallel(Recurrence):
    """Args:
    branches: recurrences that take inputs of the same width.

    Raises:
        ShapeError: none, or widths that differ.

    Example:
        >>> every_step_and_their_mean = Parallel(Pointwise(nn.Identity(), 64), MeanPool(64))
    """

    branches: Sequence[Recurrence]

    def __init__(self, *branches: Recurrence) -> None:
        widths = [branch.input_size for branch in branches]
        if not branches or len(set(widths)) > 1:
            raise ShapeError(f"Parallel: one or more branches of one input width, got {widths}")
        super().__init__(widths[0], sum(branch.output_size for branch in branches))
        self.branches = cast("Sequence[Recurrence]", nn.ModuleList(branches))

    def init_state(self, batch_size: int, context: State | None = None) -> State:
        return tuple(branch.init_state(batch_size, context) for branch in self.branches)

    def step(self, x_BI: Tensor, state: State, context: State | None = None) -> tuple[Tensor, State]:
        pairs = [branch.step(x_BI, s, context) for branch, s in zip(self.branches, state, strict=True)]
        return torch.cat([y for y, _ in pairs], -1), tuple(s for _, s in pairs)

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        befores, _ = self.begin(x_BTI, state, context, lengths, None)
        if not isinstance(befores, tuple) or len(befores) != len(self.branches):
            raise ShapeError(f"Parallel: the state must hold one part for each of {len(self.branches)} branches")
        pairs = [
            branch(x_BTI, before, context, lengths=lengths, reset=reset)
            for branch, before in zip(self.branches, befores, strict=True)
        ]
        return torch.cat([y for y, _ in pairs], -1), tuple(s for _, s in pairs)
