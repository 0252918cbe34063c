"""Does the context that a decoder is given hold what it needs?

H(c) <= d q bits: d numbers of q bits each. q is measured: the fewest bits to which they can be rounded before the loss
of what is written rises by more than a hundredth. Needed is I(c; y): how many bits less the targets cost with the
context than with another row's.

B batch, d numbers of a context
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

FINEST = 12  # bits


class Capacity(NamedTuple):
    numbers: int  # d
    bits: int  # q
    needed: float  # bits a sequence

    @property
    def held(self) -> int:
        """d q, bits a sequence at most."""
        return self.numbers * self.bits


@torch.no_grad()
def capacity(context_BD: Tensor, nats: Callable[[Tensor], float], rise: float = 0.01) -> Capacity:
    """Of contexts by which targets are written.

    Args:
        nats: of a whole target, the mean over rows, given contexts (B, D).
    """
    own, other = nats(context_BD), nats(context_BD.roll(1, 0))
    bits = next((q for q in range(1, FINEST) if nats(rounded(context_BD, q)) <= own + rise * abs(own)), FINEST)
    return Capacity(context_BD.shape[1], bits, max(0.0, other - own) / math.log(2))


def rounded(context_BD: Tensor, bits: int) -> Tensor:
    """Each number to one of 2^bits values between the least and the greatest that it has in the batch."""
    low_D, high_D = context_BD.amin(0), context_BD.amax(0)
    step_D = (high_D - low_D) / (2**bits - 1)
    return torch.where(step_D > 0, ((context_BD - low_D) / step_D).round() * step_D + low_D, context_BD)
