"""What cells with several heads share: how many, positions, and the norm of what each gives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.errors import ShapeError

LEAST = 64  # units that a head has where nobody says how many heads there are


def heads_of(cell: str, width: int, heads: int) -> int:
    """The number of heads: `heads`, or where that is 0 as many as leave each at least 64 units.

    Raises:
        ShapeError: the heads do not share the width equally.
    """
    if heads < 0 or (heads and width % heads):
        raise ShapeError(f"{cell}: {width} units cannot be shared equally by {heads} heads")
    return heads or max(n for n in range(1, max(1, width // LEAST) + 1) if width % n == 0)


def each_of(cell: str, what: str, width: int, heads: int) -> int:
    """The part of a width that each head has.

    Raises:
        ShapeError: the heads do not share it equally.
    """
    if width < heads or width % heads:
        hint = f"change heads, or the width of the {what}"
        raise ShapeError(f"{cell}: {what} of {width} units cannot be shared equally by {heads} heads", hint=hint)
    return width // heads


def split(x: Tensor, heads: int) -> Tensor:
    """(..., D) as (..., heads, D / heads)."""
    return x.unflatten(-1, (heads, -1))


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Neighbouring pairs of units (..., K) turned by the angles whose cosines and sines (..., K / 2) are given.

    A unit that is left over where K is odd stays as it is.
    """
    pairs, rest = x[..., : 2 * cos.shape[-1]].unflatten(-1, (-1, 2)), x[..., 2 * cos.shape[-1] :]
    a, b = pairs.unbind(-1)
    return torch.cat([torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2), rest], -1)


class HeadNorm(nn.Module):
    """Normalises each head by itself, over (..., H, V), and joins them: (..., H V).

    Args:
        centred: layer normalisation (Ba et al. 2016); else by the root mean square (Zhang & Sennrich 2019).
        gain: a learned factor: "unit" for one a unit, "shared" for one that all heads share, "none".
    """

    def __init__(
        self,
        heads: int,
        width: int,
        *,
        centred: bool = False,
        gain: str = "unit",
        bias: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.centred, self.eps = centred, eps
        shape = {"unit": (heads, width), "shared": (width,), "none": None}[gain]
        self.weight = None if shape is None else nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(heads, width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        normalised = F.layer_norm if self.centred else F.rms_norm
        x = normalised(x, x.shape[-1:], eps=self.eps)
        x = x if self.weight is None else x * self.weight
        return (x if self.bias is None else x + self.bias).flatten(-2)
