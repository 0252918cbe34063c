"""Hopfield's network, an associative memory (Hopfield 1982, PNAS 79(8):2554; continuous: 1984, PNAS 81(10):3088).

W    = (1/N) sum over p of p p', without its diagonal                                    B batch, N units
s[t] = sign(W s[t-1] + x[t]),  or tanh(gain (W s[t-1] + x[t])) with a gain               state: s_BN
y[t] = s[t]                                                                              x: a field from outside

All units move at once. E = -s'Ws/2 never rises where they move one by one with no field (`energy`); moved together they
end in a fixed point or in a cycle of two (Goles & Olivos 1980).
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from clew.cells.base import Recurrence
from clew.errors import ConfigError, ShapeError
from clew.tree import State


class Hopfield(Recurrence):
    """See above. W is a buffer: it is stored, not trained.

    Args:
        gain: how steep tanh is; 0 for units of two values.

    Raises:
        ShapeError: a field of another width than the state.
        ConfigError: a gain under 0.

    Example:
        >>> net = Hopfield.storing(patterns_PN)
        >>> recalled_BN = net.recall(damaged_BN)
    """

    cite = "Hopfield 1982, PNAS 79(8):2554-2558"
    W: Tensor

    def __init__(self, input_size: int, hidden_size: int, *, gain: float = 0.0) -> None:
        super().__init__(input_size, hidden_size)
        if input_size != hidden_size:
            raise ShapeError(
                f"Hopfield: a field acts on each unit, so both sizes are one, got {input_size}, {hidden_size}"
            )
        if not gain >= 0:
            raise ConfigError(f"Hopfield: gain must be at least 0, got {gain}")
        self.gain = gain
        self.register_buffer("W", torch.zeros(hidden_size, hidden_size))

    @classmethod
    def storing(cls, patterns_PN: Tensor, *, gain: float = 0.0) -> Self:
        """A network that holds these patterns of -1 and 1, by Hebb's rule."""
        N = patterns_PN.shape[1]
        net = cls(N, N, gain=gain).to(patterns_PN)
        net.W.copy_(patterns_PN.T @ patterns_PN / N)
        net.W.fill_diagonal_(0.0)
        return net

    def init_state(self, batch_size: int, context: State | None = None) -> Tensor:
        return self.W.new_zeros(batch_size, self.hidden_size)

    def step(self, x_BI: Tensor, state: Tensor, context: State | None = None) -> tuple[Tensor, Tensor]:
        field_BN = state @ self.W + x_BI
        # A unit that nothing acts on stays as it is.
        two_BN = torch.where(field_BN == 0, state, field_BN.sign())
        s_BN = torch.tanh(self.gain * field_BN) if self.gain else two_BN
        return s_BN, s_BN

    @torch.no_grad()
    def recall(self, s_BN: Tensor, steps: int = 100) -> Tensor:
        """Where the state comes to rest from here, or is after so many steps, (B, N)."""
        still_BN = torch.zeros_like(s_BN)
        for _ in range(steps):
            after_BN = self.step(still_BN, s_BN)[0]
            if after_BN.equal(s_BN):
                break
            s_BN = after_BN
        return s_BN

    def energy(self, s_BN: Tensor) -> Tensor:
        """-s'Ws/2, (B,)."""
        return -0.5 * ((s_BN @ self.W) * s_BN).sum(-1)
