"""Simplified state space layer (Smith, Warrington & Linderman 2022, arXiv:2208.04933, section 3, app. B.1).

dt     = exp(log_dt), times the elapsed time of a step with `gaps`      B batch, T time, I input, H hidden
a      = exp(Lambda dt)                                                 N pairs of conjugate states
h[t]   = a * h[t-1] + (a - 1) / Lambda * (B x[t])                       zero-order hold, eq. 6
y[t]   = 2 Re(C h[t]) + D x[t]                                          state: h_BN2, real and imaginary parts

Lambda, B and C begin as the eigenvalues of the HiPPO-N matrix and its input and output in their basis.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from clew import ops
from clew.cells.base import Scanned, beside_time
from clew.cells.lru import Skip, into, out_of, polar
from clew.errors import ConfigError, ShapeError
from clew.tree import State


class S5(Scanned):
    """A linear system in continuous time with many inputs and outputs, sampled at a step size that it learns.

    Of each pair of conjugate states one is kept.

    Args:
        state_size: real width of the state; 0 for the multiple of 2 blocks next above hidden_size.
        blocks: HiPPO matrices that the state begins as; more of them remember less far, in more ways.
        dt: range that the step sizes are drawn from, evenly in their logarithms.
        clip: keeps the real parts of Lambda below 0, so that no state can grow without end (advised for streams).
        gaps: the last column of x is the time since the step before (since the sequence began, at first), not below 0,
            in units of a usual gap; it scales dt, and is read as nothing else.

    Raises:
        ShapeError: a state that the blocks do not share in pairs, or gaps without another column.
        ConfigError: step sizes that are not above 0.

    Example:
        >>> y, h = S5(8, 32, blocks=2)(torch.randn(4, 100, 8))
    """

    cite = "Smith et al. 2022, arXiv:2208.04933"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        state_size: int = 0,
        blocks: int = 1,
        dt: tuple[float, float] = (0.001, 0.1),
        clip: bool = False,
        gaps: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if blocks < 1 or state_size < 0 or state_size % (2 * blocks):
            raise ShapeError(f"S5: {state_size} states cannot be shared in pairs by {blocks} blocks")
        if not 0 < dt[0] <= dt[1]:
            raise ConfigError(f"S5: dt must be two numbers above 0, the smaller first, got {dt}")
        self.clip, self.gaps, features = clip, gaps, beside_time("S5", input_size, gaps)
        width = state_size or -(-hidden_size // (2 * blocks)) * 2 * blocks
        self.pairs = N = width // 2
        roots, basis = hippo(width // blocks)
        basis = torch.block_diag(*[basis] * blocks)
        real = torch.get_default_dtype()
        self.growth = nn.Parameter(roots.real.repeat(blocks).to(real))
        self.frequency = nn.Parameter(roots.imag.repeat(blocks).to(real))
        self.log_dt = nn.Parameter(torch.empty(N).uniform_(math.log(dt[0]), math.log(dt[1])))
        B = _truncated(width, features).to(basis.dtype)
        C = torch.view_as_complex(_truncated(width, hidden_size, 2)).T
        self.B = nn.Parameter(torch.view_as_real((basis.mH @ B).resolve_conj()).to(real))
        self.C = nn.Parameter(torch.view_as_real(C @ basis).to(real))
        self.skip = Skip(features, hidden_size)

    def init_state(self, batch_size: int, context: State | None = None) -> Tensor:
        return self.log_dt.new_zeros(batch_size, self.pairs, 2)

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        dt, x = torch.exp(self.log_dt), x_BTI
        if self.gaps:
            dt, x = dt * x_BTI[..., -1:], x_BTI[..., :-1]
        a, held = self.sampled(dt)
        drive = times(held, into(x, self.B)) if self.gaps else into(x, times(held[:, None], self.B))
        a = a.expand(drive.shape)
        h_BTN2, state = ops.linear_scan(a, drive, state, initial=initial, lengths=lengths, reset=reset)
        return 2 * out_of(h_BTN2, self.C) + self.skip(x), state

    def sampled(self, dt: Tensor) -> tuple[Tensor, Tensor]:
        """exp(Lambda dt) and (exp(Lambda dt) - 1) / Lambda, both (..., N, 2), for step sizes (..., N)."""
        re, im = self.growth.clamp(max=-1e-4) if self.clip else self.growth, self.frequency
        a = polar(torch.exp(re * dt), im * dt)
        # exp(z) - 1 in a form that loses no digits where dt is small.
        less = torch.stack([torch.expm1(re * dt) * torch.cos(im * dt) - 2 * torch.sin(im * dt / 2) ** 2, a[..., 1]], -1)
        return a, times(less, torch.stack([re, -im], -1)) / (re**2 + im**2)[:, None]


def times(a: Tensor, b: Tensor) -> Tensor:
    """Products of complex numbers that are pairs (..., 2)."""
    (ar, ai), (br, bi) = a.unbind(-1), b.unbind(-1)
    return torch.stack([ar * br - ai * bi, ar * bi + ai * br], -1)


def hippo(size: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues (size / 2) and eigenvectors (size, size / 2) of the HiPPO-N matrix, one of each conjugate pair.

    It is the normal part of HiPPO-LegS: -1/2 on the diagonal, and skew-symmetric beside it (Gu et al. 2022,
    arXiv:2206.11893), so that the eigenvalues of its Hermitian multiple are real.
    """
    root = (torch.arange(size, dtype=torch.float64) + 0.5).sqrt()
    below = torch.outer(root, root).tril(-1)
    frequencies, vectors = torch.linalg.eigh(-1j * (below.mT - below))
    half = size // 2
    return torch.complex(torch.full((half,), -0.5, dtype=torch.float64), frequencies[:half]), vectors[:, :half]


def _truncated(fan_in: int, *shape: int) -> Tensor:
    """Normal numbers (fan_in, *shape) of variance 1 / fan_in, none beyond two deviations of the uncut ones."""
    uncut = 1 / 0.87962566103423978
    drawn = torch.empty(fan_in, *shape, dtype=torch.float64)
    return nn.init.trunc_normal_(drawn, std=uncut, a=-2 * uncut, b=2 * uncut) / fan_in**0.5
