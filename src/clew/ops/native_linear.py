"""The compiled kernels of the recurrences that are linear in their state: a whole sequence in one call.

The equations are in `algebra`, what the kernels do in csrc/elementwise.h, selective.h and matrix.h. Second derivatives
are those of the definition, which is then run again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clew.ops import algebra
from clew.ops.native import compiled, plain

CHUNK = 32  # steps whose states the gradient's pass computes anew: their states stay in a core's cache
WIDE = 256  # numbers of state worth a thread of their own


class Kernel(NamedTuple):
    """One algebra: the names of its tensors in csrc/algebra.h, and what it needs beside them."""

    number: int
    definition: Callable[..., tuple[Tensor, Tensor]]  # of the tensors, then lengths and reset
    inputs: Sequence[str]  # the last two are the state before, and the one that a reset restores
    sizes: Callable[[dict[str, Tensor], int], tuple[int, ...]]  # parts, and the sizes of csrc/algebra.h
    output: str = "y"


def _elementwise_sizes(t: dict[str, Tensor], B: int) -> tuple[int, ...]:
    N, a = t["h0"][0].numel(), t["a"]
    parts = 1 if B >= torch.get_num_threads() else min(torch.get_num_threads(), -(-N // WIDE))
    return max(1, parts), N, a.stride(0), a.stride(1), 0


def _selective_sizes(t: dict[str, Tensor], B: int) -> tuple[int, ...]:
    D, N = t["A"].shape
    parts = 1 if B >= torch.get_num_threads() else min(torch.get_num_threads(), -(-D * N // WIDE))
    return max(1, parts), D, N, 0, 0


def _matrix_sizes(t: dict[str, Tensor], B: int) -> tuple[int, ...]:
    H, K, V = t["h0"].shape[1:]
    return 1, H, K, V, t["w"].shape[-1]


ELEMENTWISE = ("a", "b", "h0", "hr")
REAL = Kernel(0, algebra.linear, ELEMENTWISE, _elementwise_sizes)
COMPLEX = Kernel(1, algebra.linear, ELEMENTWISE, _elementwise_sizes)
MAXIMUM = Kernel(2, algebra.maximum, ELEMENTWISE, _elementwise_sizes)
SELECTIVE = Kernel(3, algebra.selective, ("x", "dt", "A", "B", "C", "h0", "hr"), _selective_sizes)
MATRIX = Kernel(4, algebra.matrix, ("q", "k", "v", "w", "a", "b", "h0", "hr"), _matrix_sizes)


def takes(tensors: Sequence[Tensor | None]) -> bool:
    """Whether the kernels can run this: see `native.plain`."""
    return plain([t for t in tensors if t is not None])


def scan(
    kernel: Kernel, tensors: Sequence[Tensor | None], lengths: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Outputs and the last state; `tensors` are those that the kernel names."""
    # Copies, as the gradient's pass reads them again.
    lengths = None if lengths is None else lengths.to("cpu", torch.int64, copy=True).contiguous()
    reset = None if reset is None else reset.to("cpu", copy=True).contiguous()
    return _Run.apply(kernel, lengths, reset, torch.is_grad_enabled(), *tensors)


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx, kernel: Kernel, lengths, reset, differentiable, *tensors):
        given = _named(kernel, tensors)
        wide, state = given["a" if kernel.number < 3 else "x" if kernel.number == 3 else "v"], given["h0"]
        B, T = wide.shape[:2]
        training = differentiable and any(ctx.needs_input_grad)
        y, h = state.new_empty(wide.shape), state.new_empty(state.shape)
        kept = None
        if training and kernel.number >= 3:
            V = compiled().lanes(state.dtype == torch.float64)
            shape = list(state.shape[1:])
            shape[-1] = -(-shape[-1] // V) * V if kernel.number == 4 else shape[-1]
            kept = state.new_empty(B, -(-T // CHUNK), *shape)
        _call(
            kernel, False, (B, T), lengths, reset, given | {"y": y, "h": h} | ({} if kept is None else {"kept": kept})
        )
        if training:
            ctx.kernel, ctx.lengths, ctx.reset, ctx.kept = kernel, lengths, reset, kept
            ctx.save_for_backward(*tensors, *((y,) if kernel.number < 3 else ()))
        return y, h

    @staticmethod
    def backward(ctx, dy, dh):
        kernel, tensors = ctx.kernel, ctx.saved_tensors[: len(ctx.kernel.inputs)]
        needed = ctx.needs_input_grad[4:]
        if torch.is_grad_enabled():
            return (None, None, None, None, *_definition_gradients(ctx, tensors, (dy, dh), needed))
        given = _named(kernel, tensors)
        B, T = dy.shape[:2]
        parts = kernel.sizes(given, B)[0]
        shapes = {name: t.shape for name, t in given.items()}
        if kernel.number == 3:  # sums over rows, or over parts of the channels
            shapes |= {"A": (B, *given["A"].shape), **{name: (parts, *given[name].shape) for name in ("B", "C")}}
        found = {f"d{name}": dy.new_empty(shape) for name, shape in shapes.items()}
        kept = {"kept": ctx.kept} if ctx.kept is not None else {"y": ctx.saved_tensors[-1]}
        _call(
            kernel,
            True,
            (B, T),
            ctx.lengths,
            ctx.reset,
            given | kept | found | {"dy": dy.contiguous(), "dh": dh.contiguous()},
        )
        if kernel.number == 3:
            found |= {name: found[name].sum(0) for name in ("dA", "dB", "dC")}
        return (None, None, None, None, *(found.get(f"d{name}") for name in kernel.inputs))


def _named(kernel: Kernel, tensors: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """The tensors that there are, by name, contiguous; but a decay that is the same at all steps stays as it is."""
    given = {name: t for name, t in zip(kernel.inputs, tensors, strict=True) if t is not None}
    return {
        name: t if kernel.number < 3 and name == "a" and _dense_inside(t) else t.contiguous()
        for name, t in given.items()
    }


def _dense_inside(a: Tensor) -> bool:
    return a[0, 0].is_contiguous() if a.numel() else a.is_contiguous()


def _call(kernel: Kernel, gradient: bool, BT: tuple[int, int], lengths, reset, tensors: dict[str, Tensor]) -> None:
    held = tensors | {name: t for name, t in (("lengths", lengths), ("reset", reset)) if t is not None}
    parts, *sizes = kernel.sizes(tensors, BT[0])
    wide = tensors["h0"].dtype == torch.float64
    addresses = {name: t.data_ptr() for name, t in held.items()}
    compiled().algebra(kernel.number, wide, gradient, torch.get_num_threads(), (*BT, CHUNK, parts, *sizes), addresses)


def _definition_gradients(ctx, tensors, gradients, needed) -> list[Any]:
    """Gradients that can be derived again."""
    own = [None if t is None else t.view_as(t) for t in tensors]  # one tensor may stand in several places
    outputs = ctx.kernel.definition(*own, ctx.lengths, ctx.reset)
    wanted = [t for t, need in zip(own, needed, strict=True) if need]
    found = iter(torch.autograd.grad(outputs, wanted, gradients, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]
