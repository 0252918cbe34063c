"""Independently recurrent neural network (Li, Li, Cook, Zhu & Gao 2018, arXiv:1803.04831, eq. 2 and section 3).

h[t] = f(W x[t] + u * h[t-1] + b)      f = ReLU or tanh            B batch, T time, H hidden

A unit sees no other's past, so its gradient grows by at most |u|^T over T steps; |u| <= gamma^(1/T) makes that gamma.
                                                                   state: h_BH
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from clew.cells.base import Scanned
from clew.cells.classical import choice
from clew.errors import ConfigError
from clew.ops import definition as ref
from clew.tree import State


class IndRNN(Scanned):
    """A recurrence whose units are joined by the layers between them and never through time.

    u is drawn uniformly from 0 to gamma^(1/steps), or with `epsilon` from epsilon^(1/steps), which makes all units
    remember over `steps` steps (the paper's choice for the last of several layers).

    Args:
        steps: T of the bound, the longest span to learn over; 0 for no end, which makes the bound 1.
        gamma: how much a gradient may grow over that span.
        epsilon: how much of a gradient must at least be left of it at first.

    Raises:
        ConfigError: an unknown nonlinearity, or a span or bounds that do not make sense.

    Example:
        >>> y, h = IndRNN(8, 32, steps=100)(torch.randn(4, 100, 8))
    """

    cite = "Li et al. 2018, arXiv:1803.04831"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        nonlinearity: Literal["relu", "tanh"] = "relu",
        steps: int = 0,
        gamma: float = 2.0,
        epsilon: float = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.nonlinearity = choice("nonlinearity", nonlinearity, ("relu", "tanh"))
        if steps < 0 or not 0 <= epsilon <= gamma or gamma == 0:
            raise ConfigError(
                f"IndRNN: steps must be at least 0, and epsilon between 0 and gamma, got {steps}, {epsilon}, {gamma}"
            )
        if epsilon and not steps:
            raise ConfigError("IndRNN: epsilon needs the number of steps that it holds for: give steps as well")
        self.to_h = nn.Linear(input_size, hidden_size, bias)
        # The official code's; it draws W smaller than torch does, since u adds up what comes in.
        nn.init.kaiming_uniform_(self.to_h.weight, a=8)
        if bias:
            nn.init.zeros_(self.to_h.bias)
        power = 1 / steps if steps else 0.0
        least = epsilon**power if epsilon else 0.0
        self.u = nn.Parameter(torch.empty(hidden_size).uniform_(least, gamma**power))

    def init_state(self, batch_size: int, context: State | None = None) -> Tensor:
        return self.u.new_zeros(batch_size, self.hidden_size)

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        f = torch.relu if self.nonlinearity == "relu" else torch.tanh

        def step(gx_BH: Tensor, h_BH: State) -> tuple[Tensor, State]:
            h_BH = f(torch.addcmul(gx_BH, self.u, h_BH))
            return h_BH, h_BH

        return ref.scan(step, self.to_h(x_BTI), state, initial, lengths, reset, output_size=self.hidden_size)
