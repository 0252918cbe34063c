"""The compiled kernels of the recurrences that are linear in their state, and of the short convolutions before them: a
whole sequence in one call.

The equations are in `algebra` and `window`, what the kernels do in csrc/elementwise.h, selective.h, matrix.h, conv.h.
The gradient's pass reads the states again where they are the outputs; else it computes them anew, chunk by chunk.
Second derivatives are those of the form in chunks, which is then run.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from clew.errors import ShapeError
from clew.ops import algebra, chunked, chunked_matrix, window
from clew.ops.native import compiled, definition_gradients, plain

CHUNK = 32  # steps: their states stay in a core's cache
WIDE = 256  # numbers of state that are worth a thread of their own

KEPT = {"states": "kept", "outputs": "y"}  # their names in csrc/algebra.h

Named = dict[str, Tensor]


class Kernel(NamedTuple):
    """One algebra: its tensors by their names in csrc/algebra.h, each with a letter for every dimension."""

    number: int
    definition: Callable[..., tuple[Tensor, Tensor]]  # of the tensors, then lengths and reset
    chunked: Callable[..., tuple[Tensor, Tensor]]  # the same numbers in few calls of torch, where no kernel runs
    tensors: dict[str, str]  # "h0" is the state before, "hr" what a reset restores
    like: str  # outputs have its shape
    sizes: str  # what the compiled part is told, beside B and T
    keeps: Literal["states", "outputs", ""] = "states"  # what the gradient's pass reads: those before the chunks, or y
    shared: str = ""  # the dimensions of state whose parts threads may take where there are few rows
    over_rows: Sequence[str] = ()  # what all rows share: its gradients are summed over them
    over_parts: Sequence[str] = ()  # what all parts share

    def measure(self, given: Named) -> dict[str, int]:
        """The size of every letter.

        Raises:
            ShapeError: tensors that do not fit each other. The compiled part reads where they say that there is memory.
        """
        sizes: dict[str, int] = {"2": 2}
        for name, tensor in given.items():
            letters = self.tensors[name]
            fits = tensor.ndim == len(letters)
            for letter, size in zip(letters, tensor.shape, strict=False):
                fits = fits and sizes.setdefault(letter, size) == size
            if not fits:
                known = ", ".join(f"{letter} = {size}" for letter, size in sizes.items() if letter != "2")
                raise ShapeError(f"{name} must be ({', '.join(letters)}), got {tuple(tensor.shape)} where {known}")
        if self is MATRIX and sizes["W"] not in (1, sizes["K"]):
            raise ShapeError(f"w must have one decay for a head or one for each of {sizes['K']} keys, got {sizes['W']}")
        if self is MATRIX:
            algebra.heads_of_group(sizes["H"], sizes["G"])
        if "P" in sizes and sizes["P"] != sizes["W"] - 1:
            raise ShapeError(f"a convolution of {sizes['W']} taps has a past of {sizes['W'] - 1}, got {sizes['P']}")
        return sizes

    def parts(self, sizes: dict[str, int]) -> int:
        """How many parts the rows are shared out into, where there are fewer of them than threads."""
        threads = torch.get_num_threads()
        if not self.shared or sizes["B"] >= threads:
            return 1
        return max(1, min(threads, math.prod(sizes[letter] for letter in self.shared) // WIDE))


def _elementwise(number: int, definition: Callable, chunked: Callable, state: str) -> Kernel:
    tensors = {"a": f"BT{state}", "b": f"BT{state}", "h0": f"B{state}", "hr": f"B{state}"}
    return Kernel(number, definition, chunked, tensors, "b", state, keeps="outputs", shared=state)


REAL, COMPLEX = (_elementwise(i, algebra.linear, chunked.linear, state) for i, state in enumerate(("N", "N2")))
MAXIMUM = _elementwise(2, algebra.maximum, chunked.maximum, "N")
SELECTIVE = Kernel(
    3,
    algebra.selective,
    chunked.selective,
    {"x": "BTD", "dt": "BTD", "A": "DN", "B": "BTN", "C": "BTN", "h0": "BDN", "hr": "BDN"},
    like="x",
    sizes="DN",
    shared="DN",
    over_rows=("A",),
    over_parts=("B", "C"),
)
MATRIX = Kernel(
    4,
    algebra.matrix,
    chunked_matrix.matrix,
    {"q": "BTGK", "k": "BTGK", "v": "BTHV", "w": "BTHW", "a": "BTGK", "b": "BTGK", "h0": "BHKV", "hr": "BHKV"},
    like="v",
    sizes="HKVWG",
)
_CONV = {"x": "BTD", "weight": "DW", "bias": "D", "h0": "BPD"}
CONV = Kernel(
    5, window.short_conv, window.short_conv, _CONV, "x", "DW", keeps="", shared="D", over_rows=("weight", "bias")
)
_WITH_SILU = functools.partial(window.short_conv, silu=True)
CONV_SILU = CONV._replace(number=6, definition=_WITH_SILU, chunked=_WITH_SILU)


def takes(tensors: Sequence[Tensor | None]) -> bool:
    """Whether the kernels can run this: see `native.plain`."""
    return plain([t for t in tensors if t is not None])


def scan(
    kernel: Kernel, tensors: Sequence[Tensor | None], lengths: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Outputs and the last state; `tensors` are those that the kernel names."""
    lengths, reset = checked(kernel, tensors, lengths, reset, torch.device("cpu"))
    # Inside the Function no gradient is ever enabled.
    return _Run.apply(kernel, lengths, reset, torch.is_grad_enabled(), *tensors)


def checked(
    kernel: Kernel,
    tensors: Sequence[Tensor | None],
    lengths: Tensor | None,
    reset: Tensor | None,
    device: torch.device,
) -> tuple[Tensor | None, Tensor | None]:
    """Lengths and resets as kernels read them: copies, as the gradient's pass reads them again. Raises ShapeError."""
    sizes = kernel.measure(_there(kernel, tensors))
    B, T = sizes["B"], sizes["T"]
    if lengths is not None:
        if lengths.shape != (B,) or bool(((lengths < 0) | (lengths > T)).any()):
            raise ShapeError(f"lengths must be {B} whole numbers from 0 to {T}, got {lengths.tolist()[:8]}")
        lengths = lengths.to(device, torch.int64, copy=True).contiguous()
    if reset is not None:
        if reset.shape != (B, T) or reset.dtype != torch.bool:
            raise ShapeError(f"reset must be bool of shape ({B}, {T}), got {reset.dtype} {tuple(reset.shape)}")
        reset = reset.to(device, copy=True).contiguous()
    return lengths, reset


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx, kernel, lengths, reset, differentiable, *tensors):
        given = named(kernel, tensors)
        h0, like = given["h0"], given[kernel.like]
        training = differentiable and any(ctx.needs_input_grad)
        found = {"y": like.new_empty(like.shape), "h": h0.new_empty(h0.shape)}
        if training and kernel.keeps == "states":
            B, *state = h0.shape
            found["kept"] = h0.new_empty(B, -(-like.shape[1] // CHUNK), *state)
        _call(kernel, False, lengths, reset, given, found)
        if training:
            ctx.call = kernel, lengths, reset
            ctx.save_for_backward(*tensors, found[KEPT[kernel.keeps]] if kernel.keeps else None)
        return found["y"], found["h"]

    @staticmethod
    def backward(ctx, dy, dh):
        (kernel, lengths, reset), (*tensors, kept) = ctx.call, ctx.saved_tensors
        if torch.is_grad_enabled():
            gradients = definition_gradients(
                lambda *own: kernel.chunked(*own, lengths, reset), tensors, (dy, dh), ctx.needs_input_grad[4:]
            )
            return (None, None, None, None, *gradients)
        given = named(kernel, tensors)
        several = {name: len(dy) for name in kernel.over_rows if name in given}
        several |= {name: kernel.parts(kernel.measure(given)) for name in kernel.over_parts}
        found = {
            f"d{name}": dy.new_empty((several[name], *t.shape) if name in several else t.shape)
            for name, t in given.items()
        }
        read = {"dy": dy.contiguous(), "dh": dh.contiguous()} | ({KEPT[kernel.keeps]: kept} if kernel.keeps else {})
        _call(kernel, True, lengths, reset, given, read | found)
        found |= {f"d{name}": found[f"d{name}"].sum(0) for name in several}
        return (None, None, None, None, *(found.get(f"d{name}") for name in kernel.tensors))


def _there(kernel: Kernel, tensors: Sequence[Tensor | None]) -> Named:
    return {name: t for name, t in zip(kernel.tensors, tensors, strict=True) if t is not None}


def named(kernel: Kernel, tensors: Sequence[Tensor | None]) -> Named:
    """The tensors that there are, by name, contiguous; but an `a` that is the same at all steps stays as it is."""
    given = _there(kernel, tensors)
    whole = {name: t.contiguous() for name, t in given.items()}
    if kernel.keeps == "outputs" and whole["a"].numel() and given["a"][0, 0].is_contiguous():
        whole["a"] = given["a"]
    return whole


def _call(
    kernel: Kernel, gradient: bool, lengths: Tensor | None, reset: Tensor | None, given: Named, others: Named
) -> None:
    sizes = kernel.measure(given)
    held = given | others | {name: t for name, t in (("lengths", lengths), ("reset", reset)) if t is not None}
    of_a = given["a"].stride()[:2] if kernel.keeps == "outputs" else ()
    numbers = (sizes["B"], sizes["T"], CHUNK, kernel.parts(sizes), *(sizes[letter] for letter in kernel.sizes), *of_a)
    wide = given["h0"].dtype == torch.float64
    addresses = {name: t.data_ptr() for name, t in held.items()}
    compiled().algebra(kernel.number, wide, gradient, torch.get_num_threads(), numbers, addresses)
