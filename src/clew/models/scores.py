"""Scores of attention: how well a decoder's state h fits each place m of a source, before the softmax.

additive     v' tanh(W h + U m)                                  Bahdanau et al. 2015, arXiv:1409.0473, A.1.2
dot          h' m                                                Luong et al. 2015, arXiv:1508.04025, section 3.1
bilinear     h' W m                                              the same, there "general"
scaled_dot   (W h)' (U m) / sqrt(A)                              Vaswani et al. 2017, arXiv:1706.03762, eq. 1
multi_head   the same in N parts, each with values of its own    section 3.2.2
location     v' tanh(W h + U m + L (f * last))                   Chorowski et al. 2015, arXiv:1506.07503, eq. 8-9
coverage     v' tanh(W h + U m + l seen)                         See et al. 2017, arXiv:1704.04368, eq. 11

last: the weights of the step before; seen: the sum of all before. What depends on the source alone (keys, values) is
made once, when it is encoded.

B batch, T steps of the decoder, S of the source, Q size of h, M of m, A of keys, N heads
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clew.errors import ConfigError, ShapeError


class AttendState(NamedTuple):
    last: Tensor  # (B, S) where it looked at the last step, over all heads
    seen: Tensor  # (B, S) the sum of where it has looked


class Score(nn.Module, ABC):
    """How well a query fits a place. `keys` and `values` are made once, `forward` at every step."""

    heads = 1
    looks_back = False  # whether it wants to know where it has looked

    @abstractmethod
    def keys(self, values_BSM: Tensor) -> Tensor:
        """(B, S, A)."""

    def values(self, values_BSM: Tensor) -> Tensor:
        """What is summed up: (B, S, M)."""
        return values_BSM

    @abstractmethod
    def forward(self, query_BTQ: Tensor, keys_BSA: Tensor, state: AttendState) -> Tensor:
        """(B, N, T, S)."""


class Dot(Score):
    """h' m."""

    def __init__(self, query: int, value: int, size: int = 0) -> None:
        super().__init__()
        if query != value:
            hint = "take another score, or equal widths"
            raise ShapeError(f"dot attention needs a query as wide as the source, got {query} and {value}", hint=hint)

    def keys(self, values_BSM: Tensor) -> Tensor:
        return values_BSM

    def forward(self, query_BTQ: Tensor, keys_BSA: Tensor, state: AttendState) -> Tensor:
        return (query_BTQ @ keys_BSA.mT)[:, None]


class Bilinear(Score):
    """h' W m."""

    def __init__(self, query: int, value: int, size: int = 0) -> None:
        super().__init__()
        self.to_keys = nn.Linear(value, query, bias=False)

    def keys(self, values_BSM: Tensor) -> Tensor:
        return self.to_keys(values_BSM)

    def forward(self, query_BTQ: Tensor, keys_BSA: Tensor, state: AttendState) -> Tensor:
        return (query_BTQ @ keys_BSA.mT)[:, None]


class ScaledDot(Score):
    """(W h)' (U m) / sqrt(A), in several heads by choice; then each sums values of its own.

    Raises:
        ShapeError: heads that do not share A and M equally.
    """

    def __init__(self, query: int, value: int, size: int = 0, heads: int = 1) -> None:
        super().__init__()
        self.heads, size = heads, size or query
        if heads < 1 or size % heads or value % heads:
            what = f"{heads} heads cannot share {size} units of keys and {value} of the source equally"
            raise ShapeError(what, hint="take a number of heads that divides both")
        self.to_query, self.to_keys = nn.Linear(query, size, bias=False), nn.Linear(value, size, bias=False)
        self.to_values = nn.Linear(value, value, bias=False) if heads > 1 else None

    def keys(self, values_BSM: Tensor) -> Tensor:
        return self.to_keys(values_BSM)

    def values(self, values_BSM: Tensor) -> Tensor:
        return values_BSM if self.to_values is None else self.to_values(values_BSM)

    def forward(self, query_BTQ: Tensor, keys_BSA: Tensor, state: AttendState) -> Tensor:
        query, keys = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.to_query(query_BTQ), keys_BSA))
        return (query @ keys.mT) * query.shape[-1] ** -0.5


class Additive(Score):
    """v' tanh(W h + U m)."""

    def __init__(self, query: int, value: int, size: int = 0) -> None:
        super().__init__()
        size = size or query
        self.to_query, self.to_keys = nn.Linear(query, size), nn.Linear(value, size, bias=False)
        self.read = nn.Linear(size, 1, bias=False)

    def keys(self, values_BSM: Tensor) -> Tensor:
        return self.to_keys(values_BSM)

    def forward(self, query_BTQ: Tensor, keys_BSA: Tensor, state: AttendState) -> Tensor:
        sums = self.to_query(query_BTQ)[:, :, None] + (keys_BSA + self.of_place(state))[:, None]
        return self.read(torch.tanh(sums))[..., 0][:, None]

    def of_place(self, state: AttendState) -> Tensor | float:
        """What each place brings by where was looked before: (B, S, A)."""
        return 0.0


class Location(Additive):
    """Additive, with what a convolution sees of the last weights around a place.

    Args:
        filters: of the convolution.
        reach: places that it sees to either side.
    """

    looks_back = True

    def __init__(self, query: int, value: int, size: int = 0, filters: int = 10, reach: int = 7) -> None:
        super().__init__(query, value, size)
        self.filters = nn.Conv1d(1, filters, 2 * reach + 1, padding=reach, bias=False)
        self.to_place = nn.Linear(filters, size or query, bias=False)

    def of_place(self, state: AttendState) -> Tensor:
        return self.to_place(self.filters(state.last[:, None]).mT)


class Coverage(Additive):
    """Additive, with how much of a place has been seen."""

    looks_back = True

    def __init__(self, query: int, value: int, size: int = 0) -> None:
        super().__init__(query, value, size)
        self.to_place = nn.Linear(1, size or query, bias=False)

    def of_place(self, state: AttendState) -> Tensor:
        return self.to_place(state.seen[..., None])


SCORES: dict[str, type[Score]] = {
    "additive": Additive,
    "dot": Dot,
    "scaled_dot": ScaledDot,
    "bilinear": Bilinear,
    "multi_head": ScaledDot,
    "location": Location,
    "coverage": Coverage,
}
HEADS = 4  # of multi_head where nobody says


def make_score(name: str, query: int, value: int, size: int = 0, heads: int = 0) -> Score:
    """A score by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in SCORES:
        raise ConfigError(f"unknown attention '{name}'", hint=f"known: {', '.join(SCORES)}")
    if name == "multi_head":
        return ScaledDot(query, value, size, heads or HEADS)
    return SCORES[name](query, value, size)
