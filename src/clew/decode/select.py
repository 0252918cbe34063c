"""The largest of many numbers, where equal ones always come in the same order: that of their places.

R rows, M parents, K slots of the next step, V numbers
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64


def top(x_RV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, (R, min(k, V)), largest first and of equal ones the first, and where they stand.

    A NaN counts as the largest. Which of equal numbers `torch.topk` gives is not defined; most rows have none that
    matter, so only those that do are looked at again.
    """
    k = min(k, x_RV.shape[1])
    value, place = _some_top(x_RV, min(k + 1, x_RV.shape[1]))
    equal_R = ((value[:, 1:] == value[:, :-1]) & (value[:, 1:] > -torch.inf)).any(1)
    value, place = value[:, :k], place[:, :k]
    if bool(equal_R.any()):
        again = equal_R.nonzero()[:, 0]
        x, least = x_RV[again], value[again, k - 1 :]
        above = ~(x <= least)
        at = x == least
        among = above | (at & (at.cumsum(1) <= k - above.sum(1, keepdim=True)))
        there = among.nonzero()[:, 1].view(-1, k)  # in the order of places, which a stable sort keeps
        found, order = x.gather(1, there).sort(dim=1, descending=True, stable=True)
        value, place = value.index_copy(0, again, found), place.index_copy(0, again, there.gather(1, order))
    return value, place


def _some_top(x_RV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `torch.topk`. Where there are many numbers, only the blocks are searched whose largest are the largest: the
    largest of a block takes a tenth of the time that choosing among its numbers takes."""
    V = x_RV.shape[1]
    if 2 * BLOCK * k > V:
        return x_RV.topk(k, 1)
    even = V - V % BLOCK
    block_RK = x_RV[:, :even].unflatten(1, (-1, BLOCK)).amax(2).topk(k, 1).indices
    step = torch.arange(BLOCK, device=x_RV.device)
    rest = torch.arange(even, V, device=x_RV.device).expand(len(x_RV), -1)
    place = torch.cat([(block_RK[:, :, None] * BLOCK + step).flatten(1), rest], 1)
    value, among = x_RV.gather(1, place).topk(k, 1)
    return value, place.gather(1, among)


def best(candidate_RMV: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Ordinary beam search: the `width` best of all candidates, and their places in (R, M V)."""
    return top(candidate_RMV.flatten(1), width)


def monotone(candidate_RMV: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Monotone beam search: slot i takes the best candidate of parents 0..i that no slot before it took.

    So what stands in a slot does not depend on how many slots follow (Lemons et al. 2022, arXiv:2204.02929).
    """
    _, M, V = candidate_RMV.shape
    left_RC = candidate_RMV.flatten(1).clone()
    values, places = [], []
    for slot in range(min(width, M * V)):
        value_R1, place_R1 = left_RC[:, : (slot + 1) * V].max(1, keepdim=True)
        left_RC.scatter_(1, place_R1, -torch.inf)
        values.append(value_R1)
        places.append(place_R1)
    return torch.cat(values, 1), torch.cat(places, 1)
