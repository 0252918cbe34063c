"""Linear recurrent unit (Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu & De 2023, arXiv:2303.06349, section 3).

lambda = exp(-exp(nu) + i exp(theta))                              B batch, T time, I input, H hidden
h[t]   = lambda * h[t-1] + exp(gamma) * (B x[t])                   N complex states
y[t]   = Re(C h[t]) + D x[t]                                       state: h_BN2, real and imaginary parts
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew import ops
from clew.cells.base import Scanned
from clew.errors import ConfigError, ShapeError
from clew.tree import State


class LRU(Scanned):
    """A diagonal linear recurrence over complex numbers inside the unit circle: stable at every value it can learn.

    Args:
        state_size: N; 0 for hidden_size.
        radius: ring that |lambda| is drawn from, evenly over its area; near 1 for long memory.
        phase: the largest angle of lambda, in radians; a small one for slow oscillations only.

    Raises:
        ShapeError: a negative state_size.
        ConfigError: a ring that does not lie within the unit circle, or a phase outside (0, 2 pi].

    Example:
        >>> y, h = LRU(8, 32, radius=(0.9, 0.999))(torch.randn(4, 100, 8))
    """

    cite = "Orvieto et al. 2023, arXiv:2303.06349"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        state_size: int = 0,
        radius: tuple[float, float] = (0.0, 1.0),
        phase: float = 2 * math.pi,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if state_size < 0:
            raise ShapeError(f"LRU: state_size must be at least 0, got {state_size}")
        least, most = radius
        if not 0 <= least <= most <= 1 or not 0 < phase <= 2 * math.pi + 1e-6:
            raise ConfigError(
                f"LRU: radius must be two numbers from 0 to 1, the smaller first, and phase in (0, 2 pi],"
                f" got {radius} and {phase}"
            )
        self.state_size = N = state_size or hidden_size
        # Not quite 0 or 1: the logarithms of the modulus, of the angle and of gamma must be finite.
        within = 1e-6
        place = torch.rand(2, N, dtype=torch.float64).clamp(within, 1 - within)
        square = (place[0] * (most**2 - least**2) + least**2).clamp(within, 1 - within)
        self.nu = nn.Parameter((-0.5 * square.log()).log().to(torch.get_default_dtype()))
        self.theta = nn.Parameter((place[1] * phase).log().to(torch.get_default_dtype()))
        self.gamma = nn.Parameter((0.5 * (1 - square).log()).to(torch.get_default_dtype()))
        self.B = nn.Parameter(torch.randn(N, input_size, 2) / (2 * input_size) ** 0.5)
        self.C = nn.Parameter(torch.randn(hidden_size, N, 2) / N**0.5)
        self.skip = Skip(input_size, hidden_size)

    def init_state(self, batch_size: int, context: State | None = None) -> Tensor:
        return self.nu.new_zeros(batch_size, self.state_size, 2)

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        a_N2 = polar(torch.exp(-torch.exp(self.nu)), torch.exp(self.theta))
        drive = into(x_BTI, torch.exp(self.gamma)[:, None, None] * self.B)
        a = a_N2.expand(drive.shape)
        h_BTN2, state = ops.linear_scan(a, drive, state, initial=initial, lengths=lengths, reset=reset)
        return out_of(h_BTN2, self.C) + self.skip(x_BTI), state


class Skip(nn.Module):
    """D x: a factor for each unit, or a matrix where the widths differ."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        alike = input_size == hidden_size
        self.D = nn.Parameter(torch.randn(hidden_size) if alike else torch.empty(hidden_size, input_size))
        if not alike:
            nn.init.normal_(self.D, std=input_size**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.D if self.D.ndim == 1 else F.linear(x, self.D)


def polar(modulus: Tensor, angle: Tensor) -> Tensor:
    """The complex numbers of these moduli and angles, as pairs."""
    return torch.stack([modulus * torch.cos(angle), modulus * torch.sin(angle)], -1)


def into(x: Tensor, B_NI2: Tensor) -> Tensor:
    """B x (..., N, 2) of real x (..., I), in one real matrix product."""
    return F.linear(x, B_NI2.transpose(1, 2).flatten(0, 1)).unflatten(-1, (len(B_NI2), 2))


def out_of(h: Tensor, C_HN2: Tensor) -> Tensor:
    """Re(C h) (..., H) of complex h (..., N, 2), in one real matrix product."""
    return F.linear(h.flatten(-2), (C_HN2 * C_HN2.new_tensor([1.0, -1.0])).flatten(1))
