"""Whether a kernel says what its definition says on this GPU: tried once before it is used, ragged rows and resets too.
A compiler is a large program, and a driver another.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from clew.ops import native_linear
from clew.ops.native_linear import Kernel

KERNELS = {
    "linear_scan": native_linear.REAL,
    "linear_scan of complex numbers": native_linear.COMPLEX,
    "max_scan": native_linear.MAXIMUM,
    "selective_scan": native_linear.SELECTIVE,
    "matrix_scan": native_linear.MATRIX,
}
SIZES = {"B": 3, "T": 70, "N": 37, "D": 19, "G": 2, "H": 4, "K": 16, "V": 24, "W": 16, "2": 2}
NEAR = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 2.0**-5, torch.float16: 2.0**-8}


@functools.cache
def trusted(number: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a kernel's law holds; where it does not, a warning says so, and what there is without it runs."""
    name, kernel = next((name, kernel) for name, kernel in KERNELS.items() if kernel.number == number)
    try:
        found = difference(kernel, dtype, device)
    except Exception as error:  # compilers raise what they like
        found, why = math.inf, f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    else:
        why = f"off by {found:.1e}"
    if not found <= NEAR[dtype]:
        warnings.warn(f"the Triton kernel of {name} in {dtype} is not used on {device}: {why}", stacklevel=2)
        return False
    return True


def laws(device: torch.device, dtypes: Iterable[torch.dtype] = tuple(NEAR)) -> dict[str, bool]:
    """Of each kernel and dtype: whether it is used."""
    pairs = itertools.product(KERNELS.items(), dtypes)
    return {f"{name}, {dtype}": trusted(kernel.number, dtype, device) for (name, kernel), dtype in pairs}


@torch.inference_mode(False)
@torch.enable_grad()
def difference(
    kernel: Kernel, dtype: torch.dtype, device: torch.device | str, sizes: dict[str, int] | None = None
) -> float:
    """How far outputs, last states and gradients are from the definition in double precision, as a part of their size.

    Args:
        sizes: of the letters of `Kernel.tensors`; those that are not named are as in `SIZES`.
    """
    from clew.ops import triton

    sizes = SIZES | (sizes or {})
    given = [t.to(dtype) for t in _drawn(kernel, sizes)]
    B, T = sizes["B"], sizes["T"]
    lengths = torch.linspace(T, 0, B).round().long()
    reset = torch.arange(T).expand(B, T) % 7 == 3
    ours = [t.to(device).requires_grad_() for t in given]
    theirs = [t.double().requires_grad_() for t in given]
    found = triton.scan(kernel, ours, lengths, reset)
    wanted = kernel.definition(*theirs, lengths, reset)
    along = [torch.sin(torch.arange(t.numel(), dtype=torch.float64)).view(t.shape) for t in wanted]
    gradients = torch.autograd.grad(found, ours, [v.to(device, dtype) for v in along])
    expected = torch.autograd.grad(wanted, theirs, along)
    pairs = zip((*found, *gradients), (*wanted, *expected), strict=True)
    return max(
        float((a.detach().double().cpu() - b.detach()).abs().max() / (1 + b.detach().abs().max())) for a, b in pairs
    )


def _drawn(kernel: Kernel, sizes: dict[str, int]) -> list[Tensor]:
    """Tensors as a recurrence has them: decays from 0 to 1, steps above 0, keys of length 1."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, letters in kernel.tensors.items():
        drawn = 2 * torch.rand([sizes[letter] for letter in letters], generator=generator, dtype=torch.float64) - 1
        found[name] = drawn
    if kernel.number == native_linear.SELECTIVE.number:
        found |= {"dt": found["dt"].abs(), "A": -3 * found["A"].abs()}
    elif kernel.number == native_linear.MATRIX.number:
        key = F.normalize(found["k"], dim=-1)
        found |= {"w": found["w"].abs(), "k": key, "a": -0.9 * key, "b": key.clone()}
    elif kernel.number != native_linear.MAXIMUM.number:
        found["a"] = 0.7 * found["a"]
    return list(found.values())
