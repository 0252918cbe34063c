"""How the kernels are launched: sizes of tiles, and the memory that they write to."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from clew.ops import native_linear
from clew.ops.native_linear import Kernel, Named
from clew.ops.triton import elementwise

TILE = 64  # steps
COLUMNS = 32  # of state, of one program


def _on(t: Tensor) -> AbstractContextManager[Any]:
    return torch.cuda.device(t.device) if t.is_cuda else nullcontext()


def _times(T: int) -> int:
    """Steps of a tile."""
    return min(TILE, triton.next_power_of_2(max(T, 2)))


def _over_time(like: Tensor, lengths: Tensor | None) -> Tensor:
    """What a kernel writes its real steps to."""
    return (
        torch.empty_like(like, memory_format=torch.contiguous_format)
        if lengths is None
        else torch.zeros(like.shape, dtype=like.dtype, device=like.device)
    )


def _accurate(t: Tensor) -> tl.dtype:
    return tl.float64 if t.dtype == torch.float64 else tl.float32


def _elementwise(given: Named, lengths: Tensor | None, reset: Tensor | None) -> tuple[tuple[int, int], list[Any], dict]:
    """Grid, numbers and options of either pass."""
    B, T, N = given["b"].shape[:3]
    columns = min(COLUMNS, triton.next_power_of_2(N))
    options = {"RAGGED": lengths is not None, "RESETS": reset is not None, "ACC": _accurate(given["b"])}
    numbers = [T, N, *given["a"].stride()[:2]]
    return (B, triton.cdiv(N, columns)), numbers, {**options, "BT": _times(T), "BN": columns}


def elementwise_forward(
    kernel: Kernel, given: Named, lengths: Tensor | None, reset: Tensor | None, _: dict[str, Any]
) -> Named:
    found = {"y": _over_time(given["b"], lengths), "h": torch.empty_like(given["h0"])}
    if not found["h"].numel():
        return found
    grid, numbers, options = _elementwise(given, lengths, reset)
    run = elementwise.forward_complex if kernel.number == native_linear.COMPLEX.number else elementwise.forward
    flags = [given["h0"] if t is None else t for t in (lengths, reset)]  # never read
    with _on(given["b"]):
        run[grid](
            *(given[name] for name in ("a", "b", "h0", "hr")), *flags, found["y"], found["h"], *numbers,
            MAXIMUM=kernel.number == native_linear.MAXIMUM.number, **options,
        )  # fmt: skip
    return found


def elementwise_backward(
    kernel: Kernel, given: Named, lengths: Tensor | None, reset: Tensor | None, kept: dict[str, Tensor]
) -> Named:
    over = {f"d{name}": _over_time(given["b"], lengths) for name in ("a", "b")}
    found = {**over, **{f"d{name}": torch.empty_like(given[name]) for name in ("h0", "hr")}}
    if not found["dh0"].numel():
        return found
    grid, numbers, options = _elementwise(given, lengths, reset)
    run = elementwise.backward_complex if kernel.number == native_linear.COMPLEX.number else elementwise.backward
    flags = [given["h0"] if t is None else t for t in (lengths, reset)]
    with _on(given["b"]):
        run[grid](
            *(given[name] for name in ("a", "b", "h0", "hr")), *flags, kept["y"], kept["dy"], kept["dh"],
            *(found[f"d{name}"] for name in ("a", "b", "h0", "hr")), *numbers,
            MAXIMUM=kernel.number == native_linear.MAXIMUM.number, **options,
        )  # fmt: skip
    return found


PASSES = {
    kernel.number: (elementwise_forward, elementwise_backward)
    for kernel in (native_linear.REAL, native_linear.COMPLEX, native_linear.MAXIMUM)
}
