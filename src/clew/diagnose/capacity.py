"""Does the context that a decoder is given hold what it needs?

H(c) <= d q bits: d numbers of q bits each. q is measured: the fewest bits to which they can be rounded before the loss
of what is written rises by more than a hundredth. Needed is I(c; y), as far as these rows show it: the sum over units
of log p(y[t] | y[<t], c) less the logarithm of its mean over the contexts of the batch.

B batch, T units of a target, d numbers of a context
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

FINEST = 12  # bits
MIXED = 64  # contexts that stand for all


class Capacity(NamedTuple):
    numbers: int  # d
    bits: int  # q
    needed: float  # bits a sequence

    @property
    def held(self) -> int:
        """d q, bits a sequence at most."""
        return self.numbers * self.bits


@torch.no_grad()
def capacity(context_BD: Tensor, said: Callable[[Tensor], Tensor], rise: float = 0.01) -> Capacity:
    """Of contexts by which targets are written.

    Args:
        said: the logarithm of the probability of each unit of the targets, (B, T), 0 where padded, given contexts
            (B, D).
    """
    B = len(context_BD)

    def nats(given_BD: Tensor) -> float:
        return -float(said(given_BD).sum()) / B

    own_BT = said(context_BD).double()
    others = [own_BT] + [said(context_BD.roll(k, 0)).double() for k in range(1, min(B, MIXED))]
    mean_BT = torch.stack(others).logsumexp(0) - math.log(len(others))
    own = nats(context_BD)
    bits = next((q for q in range(1, FINEST) if nats(rounded(context_BD, q)) <= own + rise * abs(own)), FINEST)
    return Capacity(context_BD.shape[1], bits, max(0.0, float((own_BT - mean_BT).sum()) / B / math.log(2)))


def rounded(context_BD: Tensor, bits: int) -> Tensor:
    """Each number to one of 2^bits values between the least and the greatest that it has in the batch."""
    low_D, high_D = context_BD.amin(0), context_BD.amax(0)
    step_D = (high_D - low_D) / (2**bits - 1)
    return torch.where(step_D > 0, ((context_BD - low_D) / step_D).round() * step_D + low_D, context_BD)
