"""How hypotheses of different lengths compare (Wu et al. 2016, arXiv:1609.08144, eq. 14).

score(Y) = log P(Y) / lp(Y) + cp(Y)
lp(Y)    = ((5 + |Y|) / 6)^alpha                                          |Y| choices, the end among them
cp(Y)    = beta sum over i of log min(1, sum over t of p[t, i])           p[t, i] attention at step t to place i

R rows, M hypotheses of each, N = R M, S places of the source
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from clew.errors import ConfigError, ShapeError
from clew.tree import State

LengthPenalty = Callable[[Tensor], Tensor]
Coverage = Callable[[State], Tensor]


def wu(alpha: float) -> LengthPenalty:
    """lp of eq. 14. At 0 all are 1; over 0 longer hypotheses gain, under 0 they lose.

    Raises:
        ConfigError: alpha is not finite.
    """
    if not math.isfinite(alpha):
        raise ConfigError(f"the length penalty's alpha must be finite, got {alpha}")
    return lambda length: ((5.0 + length) / 6.0) ** alpha


def per_unit(length: Tensor) -> Tensor:
    """Divides by the length itself: the score is the mean log-probability of a choice."""
    return length


def covered(seen_NS: Tensor, beta: float, real_NS: Tensor | None = None) -> Tensor:
    """cp of eq. 14, (N,) and never over 0, from the attention that each place has got.

    A place that has got none counts as if it had the smallest normal number: scores stay finite and can be compared.

    Args:
        beta: at least 0; the paper has 0.2.
        real_NS: which places are no padding.
    """
    log_NS = seen_NS.clamp(torch.finfo(seen_NS.dtype).tiny, 1.0).log()
    return beta * (log_NS if real_NS is None else log_NS.masked_fill(~real_NS, 0.0)).sum(1)


class Scoring:
    """From log-probabilities to scores.

    Args:
        penalty: alpha, or a function from lengths to divisors.
        most: the longest hypothesis.
        coverage: cp, from a state.

    Raises:
        ConfigError: a divisor is not a positive number.
    """

    def __init__(
        self, penalty: float | LengthPenalty, most: int, coverage: Coverage | None, device: torch.device
    ) -> None:
        # A dead end may have no choice at all: its score is 0 by any divisor, but for 0.
        length = torch.arange(most + 1, dtype=torch.float64, device=device).clamp(min=1)
        divisor_T = (penalty if callable(penalty) else wu(penalty))(length)
        if divisor_T.shape != length.shape or not bool((divisor_T.isfinite() & (divisor_T > 0)).all()):
            raise ConfigError("the length penalty must give a positive number for each length", hint="see decode.wu")
        self.divisor_T, self.coverage = divisor_T.double(), coverage

    def score(self, total: Tensor, choices: int, extra: Tensor) -> Tensor:
        """Scores of log-probabilities that so many choices add up to; -inf stays."""
        return total / self.divisor_T[choices] + extra

    def within_reach(self, total_R: Tensor, choices: int, most_R: Tensor) -> Tensor:
        """The best score with which a hypothesis of so many choices can still end, after one more to `most`.

        No choice adds to a log-probability, and as it is not over 0 the largest divisor that is left is the best: with
        alpha over 0 that of the longest, with alpha under 0 that of the next. Coverage is not over 0.
        """
        largest = self.divisor_T[choices + 1 :].cummax(0).values
        return total_R / largest[(most_R - choices - 1).clamp(min=0)]

    def extra(self, state: State, total_RM: Tensor) -> Tensor:
        """What coverage adds to each open hypothesis, (R, M).

        Raises:
            ShapeError, ConfigError: it has another shape, or is NaN or over 0.
        """
        if self.coverage is None:
            return torch.zeros_like(total_RM)
        extra_N = self.coverage(state)
        if extra_N.shape != (total_RM.numel(),):
            raise ShapeError(f"coverage must give ({total_RM.numel()},), got {tuple(extra_N.shape)}")
        extra_RM = extra_N.double().view_as(total_RM).masked_fill(total_RM == -torch.inf, 0.0)
        if not bool((extra_RM <= 0).all()):  # which NaN is not
            raise ConfigError(
                "coverage is NaN or over 0", hint="a penalty: subtract the largest value that it can have"
            )
        return extra_RM
