"""Sequences made by rule, whose answer is known: what a recurrence can and cannot learn is measured on them."""

from __future__ import annotations

import torch
from torch import Tensor


def adding(batch: int, length: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """The adding problem (Hochreiter & Schmidhuber 1997, Neural Computation 9(8), section 5.4; in the form of Le et al.
    2015, arXiv:1504.00941, section 4.1): the sum of the two marked numbers, seen one step at a time.

    Args:
        batch: B, sequences to draw.
        length: T, steps of each; at least 2.
        generator: where the numbers come from; torch's own when None.

    Returns:
        x (B, T, 2): a number uniform in [0, 1] and a mark, 1 at one step of the first half and one of the second,
            else 0.
        y (B, 1): the sum of the two marked numbers. Who always says 1 has a mean squared error of 1/6.
    """
    half = length // 2
    numbers_BT = torch.rand(batch, length, generator=generator)
    marks_BT = torch.zeros(batch, length)
    first_B1 = torch.randint(0, half, (batch, 1), generator=generator)
    second_B1 = torch.randint(half, length, (batch, 1), generator=generator)
    marks_BT.scatter_(1, torch.cat([first_B1, second_B1], 1), 1.0)
    return torch.stack([numbers_BT, marks_BT], -1), (numbers_BT * marks_BT).sum(1, keepdim=True)
