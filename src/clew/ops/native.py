"""The compiled kernels of the classical recurrences: a whole sequence in one call, forward and backward.

    B batch, T time, I input, H hidden, G gates, V numbers in a vector

What the kernels do is in csrc/forward.h and backward.h. Where weights are large, the products over all steps (what the
input gives the gates, the gradients of the input and of the weights) are torch's, before and after. Weights are packed
anew at every call, so no pack can be stale. The compiled part may be absent: without it everything works, only slower.

Second derivatives are those of the definition, which is then run again.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from clew.ops import definition as ref
from clew.ops import precision, scratch
from clew.ops.definition import Weights
from clew.tree import State

try:
    _native: Any = importlib.import_module("clew.ops._native")
except ImportError:
    _native = None

CELLS = {"tanh": (0, 1), "relu": (0, 1), "gru": (1, 3), "lstm": (2, 4)}  # csrc/scan.h: number, gates
FEW_ROWS, FEW_UNITS = 4, 48  # below, rounding to bfloat16 takes longer than it saves
LARGE = 3 << 19  # bytes of weights: above, torch's products are faster than those within the kernels


def native_info() -> dict[str, Any] | None:
    """How the compiled part was built (compiler, instruction set), or None where it is missing."""
    return None if _native is None else dict(_native.build_info())


def rounds(B: int, H: int) -> bool:
    """Whether products of B rows with (H, H) weights are rounded to bfloat16: it was asked for, and is faster here."""
    return precision.rounds() and B >= FEW_ROWS and H >= FEW_UNITS and has_rounding()


def has_rounding() -> bool:
    """Whether kernels can round products to bfloat16 on this machine."""
    return _native is not None and _native.rounds()


def compiled() -> Any:
    """The compiled part; only where `plain` said yes."""
    return _native


def plain(tensors: Sequence[Tensor]) -> bool:
    """Whether kernels can read these: plain tensors of one kind on the CPU, no transform around, and kernels there."""
    dtype = tensors[0].dtype
    if _native is None or dtype not in (torch.float32, torch.float64) or any(t.dtype != dtype for t in tensors):
        return False
    return untouched(tensors, "cpu")


def untouched(tensors: Sequence[Tensor], device: str) -> bool:
    """Whether these are plain tensors of such a device, and nobody looks at what is done with them."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled(device):
        return False
    if torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
        return False
    if (
        torch._C._get_tracing_state() is not None or _get_current_dispatch_mode() is not None
    ):  # who writes down what torch does
        return False
    return all(_plain(t, device) for t in tensors)


def _plain(t: Tensor, device: str) -> bool:
    """Whether its numbers lie in the memory that it points at, as they are."""
    return type(t) in (Tensor, torch.nn.Parameter) and t.device.type == device and not t.is_neg()


def takes(x_BTI: Tensor, state: tuple[Tensor, ...], w: Weights) -> bool:
    """Whether the kernels can run this: no projection. Of other shapes torch's own kernels say what is wrong."""
    if w.hr is not None or any(leaf.shape != (len(x_BTI), w.hh.shape[1]) for leaf in state):
        return False
    return plain((x_BTI, *state, *(t for t in w if isinstance(t, Tensor))))


def scan(
    cell: str,
    x_BTI: Tensor,
    state: tuple[Tensor, ...],
    w: Weights,
    initial: tuple[Tensor, ...],
    lengths: Tensor | None,
    reset: Tensor | None,
    backwards: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (B, T, H), 0 on padding, and the state after each row's last real step.

    Args:
        cell: "tanh", "relu", "gru" or "lstm".
        state: h (B, H), and c for an LSTM.
        initial: what a reset restores.
        backwards: see `clew.ops`.
    """
    # Copies, as the gradient's pass reads them again. Inside the Function no gradient is ever enabled.
    lengths, reset = (None if t is None else t.clone() for t in (lengths, reset))
    options = (cell, backwards, lengths, reset, torch.is_grad_enabled())
    c, c_r = (state[1], initial[1]) if cell == "lstm" else (None, None)
    y, h, *rest = _Scan.apply(options, x_BTI, state[0], c, initial[0], c_r, w.ih, w.hh, w.bias_ih, w.bias_hh)
    return y, (h, *rest)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, options, x_BTI, h0, c0, hr, cr, ih, hh, b_ih, b_hh):
        training = options[-1] and any(ctx.needs_input_grad)
        call = _Call(options, x_BTI, hh)
        gates, y, kept, *after = call.forward(x_BTI, h0, c0, hr, cr, ih, hh, b_ih, b_hh, training)
        if training:
            ctx.save_for_backward(x_BTI, h0, c0, hr, cr, ih, hh, b_ih, b_hh, y)
            ctx.call, ctx.gates, ctx.kept = call, gates, kept
        return (y, *after)

    @staticmethod
    def backward(ctx, *gradients):
        *inputs, y = ctx.saved_tensors
        if torch.is_grad_enabled():
            run = functools.partial(_defined, ctx.call.options)
            return (None, *definition_gradients(run, inputs, gradients, ctx.needs_input_grad[1:]))
        call, gates, kept = ctx.call, ctx.gates, ctx.kept
        ctx.gates = ctx.kept = None
        if gates is None and call.keeps:  # a second pass over the same graph: the first one used the gates up
            gates, _, kept, *_ = call.forward(*inputs, True)
        return (None, *call.backward(inputs, y, gates, kept, gradients, ctx.needs_input_grad[1:]))


class _Call:
    """The sizes of one call, and the passes over them."""

    def __init__(
        self, options: tuple[str, bool, Tensor | None, Tensor | None, bool], x_BTI: Tensor, hh: Tensor
    ) -> None:
        self.options = options
        cell, self.backwards, lengths, reset, _ = options
        self.number, self.gates = CELLS[cell]
        self.sections = 4 if cell == "gru" else self.gates  # of the gates' gradients: n has two
        self.keeps = cell in ("gru", "lstm")
        self.shape, self.wide = (*x_BTI.shape, hh.shape[1]), x_BTI.dtype == torch.float64
        B, T, I, H = self.shape
        self.V = _native.lanes(self.wide)
        self.HP = padded(H, self.V)
        self.lengths = None if lengths is None else lengths.to("cpu", torch.int64).contiguous()
        assert self.lengths is None or self.lengths.shape == (B,)
        assert self.lengths is None or not ((self.lengths < 0) | (self.lengths > T)).any()
        self.real_BT = ref.valid_steps(x_BTI, self.lengths)
        self.steps = B * T if self.lengths is None else int(self.lengths.sum())
        if reset is not None and self.backwards:
            reset = ref.piece_ends(reset, self.lengths)
        self.reset = None if reset is None else reset.to("cpu", torch.bool).contiguous()
        assert self.reset is None or self.reset.shape == (B, T)
        self.rounded = rounds(B, H) and not self.wide
        # The rows of products over all steps. Torch makes its rounded products anew for every number of rows.
        self.rows = padded(self.steps, 64) if self.rounded else self.steps
        large = self.rounded or self.gates * self.HP * (H + I) * x_BTI.element_size() > LARGE
        # Columns of what the weights' gradients are computed from: h before the step, x, 1. 0 where kernels do it all.
        self.seen = padded(H + I + 1, self.V) if large else 0

    def forward(self, x_BTI, h0, c0, hr, cr, ih, hh, b_ih, b_hh, training):
        B, T, _, H = self.shape
        keeps = training and self.keeps
        gates = scratch.take(ih, self.rows, self.gates * self.HP) if keeps or self.seen else None
        kept = scratch.take(ih, self.steps, self.HP) if keeps else None
        if self.seen and gates is not None:
            self.input_part(x_BTI, ih, b_ih, b_hh, gates)
        y, h, c = x_BTI.new_empty(B, T, H), _empty(h0), None if c0 is None else _empty(c0)
        reads = {"x": x_BTI, "ih": ih, "hh": hh, "b_ih": b_ih, "b_hh": b_hh, "h0": h0, "c0": c0, "hr": hr, "cr": cr}
        self.run(False, reads, {"gates": gates, "kept": kept, "y": y, "h": h, "c": c})
        if not keeps:
            scratch.give(gates)
            gates = None
        return gates, y, kept, h, *(() if c is None else (c,))

    def backward(self, inputs, y, gates, kept, gradients, needed):
        x_BTI, h0, c0, hr, cr, ih, hh, b_ih, b_hh = inputs
        dy, dh, dc = (*gradients, None)[:3]
        reads = {"x": x_BTI, "ih": ih, "hh": hh, "gates": gates, "kept": kept, "h0": h0, "c0": c0, "hr": hr, "cr": cr}
        resets = self.reset is not None
        states = {
            "dh0": _empty(h0),
            "dc0": None if c0 is None else _empty(c0),
            "dhr": _zeros(h0) if resets else None,
            "dcr": _zeros(h0) if resets and c0 is not None else None,
        }
        reads |= {"y": y, "dy": dy, "dh": dh, "dc": dc}
        if self.seen:
            dgates = scratch.take(ih, self.rows, self.sections * self.HP)
            seen = scratch.take(ih, self.rows, self.seen)
            self.run(True, reads, {**states, "dgates": dgates, "seen": seen})
            dx, *weights = self.products(x_BTI, ih, b_ih, needed, dgates, seen)
            scratch.give(dgates, seen)
        else:
            dx = _empty(x_BTI) if needed[0] else None
            within = {
                "d_ih": _zeros(ih) if needed[5] else None,
                "d_hh": _zeros(hh) if needed[6] else None,
                "db_ih": None if b_ih is None else _zeros(b_ih),
                "db_hh": None if b_hh is None else _zeros(b_hh),
            }
            self.run(True, reads, {"dx": dx, **states, **within})
            weights = within.values()
        scratch.give(gates, kept)
        return dx, *states.values(), *weights

    def run(self, gradient: bool, reads: dict[str, Tensor | None], writes: dict[str, Tensor | None]) -> None:
        """The kernels' pass over the tensors, named as in csrc/scan.h and batch.h; those it writes are contiguous."""
        reads |= {"lengths": self.lengths, "reset": self.reset}
        held = {name: t.contiguous() for name, t in reads.items() if t is not None}
        held |= {name: t for name, t in writes.items() if t is not None}
        addresses = {name: t.data_ptr() for name, t in held.items()}
        how = self.backwards, self.options[0] == "relu"
        sizes = (*self.shape, self.HP, self.seen, self.rounded)
        _native.scan(self.number, self.wide, gradient, torch.get_num_threads(), sizes, *how, addresses)

    def input_part(self, x_BTI: Tensor, ih: Tensor, b_ih: Tensor | None, b_hh: Tensor | None, gates: Tensor) -> None:
        """Fills gates (N, G HP) by one product of torch's."""
        weight = spread(ih, self.gates, self.V).t()
        x_NI = self.pack(x_BTI)
        bias = None
        if b_ih is not None and b_hh is not None:
            bias = b_ih + b_hh
            if self.sections > self.gates:  # n's two biases: the reset gate stands between them
                bias[2 * self.shape[-1] :] = b_ih[2 * self.shape[-1] :]
            bias = spread(bias, self.gates, self.V)
        if self.rounded:
            gates.copy_(x_NI.bfloat16() @ weight.bfloat16())
            if bias is not None:
                gates.add_(bias)
        elif bias is None:
            torch.mm(x_NI, weight, out=gates)
        else:
            torch.addmm(bias, x_NI, weight, out=gates)

    def products(self, x_BTI, ih, b_ih, needed, dgates: Tensor, seen: Tensor):
        """The gradients of x, of both weights and of both biases, by torch's products over all steps."""
        (I, H), G, HP, D = self.shape[2:], self.gates, self.HP, self.sections
        seen[:, H : H + I], seen[:, H + I :], seen[:, H + I] = self.pack(x_BTI), 0.0, 1.0
        dgates[self.steps :], seen[self.steps :] = 0.0, 0.0
        if self.rounded:
            dgates, seen, ih = (t.bfloat16() for t in (dgates, seen, ih))
        of_h, of_x = dgates[:, : G * HP], dgates[:, (D - G) * HP :]
        dx = d_ih = d_hh = db_ih = db_hh = None
        if any(needed[5:]):
            if D == G:
                d = (dgates.t() @ seen).view(G, HP, -1)[:, :H]
                with_h, with_x, sum_h = d[:, :, :H], d[:, :, H:], d[:, :, H + I]
            else:
                with_x = (of_x.t() @ seen[:, H:]).view(G, HP, -1)[:, :H]
                with_h, sum_h = (of_h.t() @ seen[:, :H]).view(G, HP, -1)[:, :H], of_h.sum(0).view(G, HP)[:, :H]
                with_h, sum_h = with_h.roll(-1, 0), sum_h.roll(-1, 0)  # n stands first beside r and u
            d_hh, d_ih = with_h.flatten(0, 1), with_x[:, :, :I].flatten(0, 1)
            if b_ih is not None:
                db_ih, db_hh = with_x[:, :, I].flatten(), sum_h.clone().flatten()  # gradients are changed in place
        if needed[0]:
            dx = self.unpack(of_x @ torch.cat([_rows(w, HP) for w in ih.chunk(G)]))
        found = dx, d_ih, d_hh, db_ih, db_hh
        return tuple(None if t is None else t.float() for t in found) if self.rounded else found

    def pack(self, x_BTI: Tensor) -> Tensor:
        """The real steps of all rows, (N, I), and zeros up to whole `rows`."""
        x_NI = x_BTI.flatten(0, 1) if self.real_BT is None else x_BTI[self.real_BT]
        return _rows(x_NI, self.rows)

    def unpack(self, x_NI: Tensor) -> Tensor:
        """The inverse of `pack`; 0 on padding."""
        x_NI = x_NI[: self.steps]
        if self.real_BT is None:
            return x_NI.view(*self.shape[:2], -1)
        x_BTI = x_NI.new_zeros(*self.shape[:2], x_NI.shape[1])
        x_BTI[self.real_BT] = x_NI
        return x_BTI


def _rows(w: Tensor, n: int) -> Tensor:
    """Padded with zeros to n rows."""
    return w if len(w) == n else torch.cat([w, w.new_zeros(n - len(w), *w.shape[1:])])


def _empty(like: Tensor) -> Tensor:
    return like.new_empty(like.shape)  # contiguous, whatever `like` is


def _zeros(like: Tensor) -> Tensor:
    return like.new_zeros(like.shape)


def padded(H: int, V: int) -> int:
    """H rounded up to whole vectors of V."""
    return -(-H // V) * V


def spread(w: Tensor, G: int, V: int) -> Tensor:
    """Rows (G H, ...) in the kernels' order (HP / V, G, V), zeros in the place of units that there are not."""
    H = len(w) // G
    HP = padded(H, V)
    if HP != H:
        wide = w.new_zeros(G, HP, *w.shape[1:])
        wide[:, :H] = w.unflatten(0, (G, H))
        w = wide.flatten(0, 1)
    return w if G == 1 else w.unflatten(0, (G, HP // V, V)).transpose(0, 1).flatten(0, 2)


def _defined(options, x_BTI, h0, c0, hr, cr, *weights):
    """The same pass by the definition."""
    cell, backwards, lengths, begins, _ = options
    state = (h0, ()) if c0 is None else (h0, c0, ())
    initial = (hr, ()) if cr is None else (hr, cr, ())

    def run(x: Tensor, reset: Tensor | None) -> tuple[Tensor, State]:
        return ref.run(cell, x, state, Weights(*weights), initial, lengths, reset)

    y, (*after, _) = ref.from_the_end(run, x_BTI, lengths, begins) if backwards else run(x_BTI, begins)
    return y, *after


def definition_gradients(
    run: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    gradients: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients that can be derived again: those of `run(*inputs)`, which the definition computes.

    Args:
        gradients: of its outputs.
        needed: which inputs' are asked for; None stands for the others.
    """
    # Each by itself: a state may be the initial one too, or come from the same weights.
    own: list[Any] = [None if t is None else t.view_as(t) for t in inputs]
    pairs = [(y, dy) for y, dy in zip(run(*own), gradients, strict=True) if y.requires_grad]
    wanted = [t for t, need in zip(own, needed, strict=True) if need]
    if not pairs:
        return [None] * len(own)
    outputs, along = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(outputs, wanted, along, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]
