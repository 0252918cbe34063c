"""The recurrences that are linear in their state on a GPU, by Triton: a whole sequence in one launch, and its gradient
in one more.

Triton's interpreter runs the same kernels on the CPU, where TRITON_INTERPRET=1 was set before Triton was imported and
they are asked for: so they are tested without a GPU. Second derivatives are those of the form in chunks, which is then
run.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from clew.ops import native_linear
from clew.ops.native import definition_gradients, untouched
from clew.ops.native_linear import Kernel, Named, named

HALVES = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, torch.float64, *HALVES)
Launch = Callable[[Kernel, Named, Tensor | None, Tensor | None, dict[str, Any]], Named]


@functools.cache
def installed() -> bool:
    """Whether there is a Triton to import."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def interpreted() -> bool:
    """Whether kernels are run step by step on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def takes(kernel: Kernel, tensors: Sequence[Tensor | None], asked: bool) -> bool:
    """Whether a kernel can run this: plain tensors of one kind on a GPU; where it is asked for, also interpreted."""
    given = [t for t in tensors if t is not None]
    first = given[0]
    there = first.is_cuda or (asked and interpreted() and first.device.type == "cpu")
    if not there or first.dtype not in DTYPES:
        return False
    alike = all(t.dtype == first.dtype and t.device == first.device for t in given)
    return alike and untouched(given, first.device.type) and installed() and kernel.number in launches()


@functools.cache
def kernels(name: str) -> Any:
    """A module of kernels, imported when it is asked for: Triton takes long to import, and may be absent."""
    return importlib.import_module(f"clew.ops.triton.{name}")


@functools.cache
def launches() -> dict[int, tuple[Launch, Launch]]:
    """Of each kernel's number, its two passes."""
    return kernels("launch").PASSES


def scan(
    kernel: Kernel, tensors: Sequence[Tensor | None], lengths: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Outputs and the last state; `tensors` are those that the kernel names."""
    like = next(t for t in tensors if t is not None)
    if kernel.number == native_linear.MAXIMUM.number and like.dtype in HALVES:
        # The gradient's pass asks which was larger, and rounded states no longer say.
        y, h = scan(kernel, [None if t is None else t.float() for t in tensors], lengths, reset)
        return y.to(like.dtype), h.to(like.dtype)
    lengths, reset = native_linear.checked(kernel, tensors, lengths, reset, like.device)
    return _Run.apply(kernel, lengths, reset, torch.is_grad_enabled(), *tensors)


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx, kernel, lengths, reset, differentiable, *tensors):
        training = differentiable and any(ctx.needs_input_grad)
        found = launches()[kernel.number][0](kernel, named(kernel, tensors), lengths, reset, {"training": training})
        if training:
            ctx.call, ctx.kept = (kernel, lengths, reset), sorted(found.keys() - {"h"})
            ctx.save_for_backward(*tensors, *(found[name] for name in ctx.kept))
        return found["y"], found["h"]

    @staticmethod
    def backward(ctx, dy, dh):
        kernel, lengths, reset = ctx.call
        saved, n = ctx.saved_tensors, len(kernel.tensors)
        tensors, kept = saved[:n], dict(zip(ctx.kept, saved[n:], strict=True))
        if torch.is_grad_enabled():
            gradients = definition_gradients(
                lambda *own: kernel.chunked(*own, lengths, reset), tensors, (dy, dh), ctx.needs_input_grad[4:]
            )
            return (None, None, None, None, *gradients)
        given = kept | {"dy": dy.contiguous(), "dh": dh.contiguous()}
        found = launches()[kernel.number][1](kernel, named(kernel, tensors), lengths, reset, given)
        return (None, None, None, None, *(found.get(f"d{name}") for name in kernel.tensors))
