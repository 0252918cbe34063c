"""The compiled kernels of the classical recurrences: a whole sequence in one call, forward and backward.

    B batch, T time, I input, H hidden, G gates, V numbers in a vector, N real steps of all rows

What the kernels do is in csrc/scan.cpp. Around them, over all steps at once and by torch's own matrix product: what the
input gives the gates, and the gradients of the input and of the weights. Weights are packed anew at every call, so no
pack can be stale. The compiled part may be absent: without it everything works, only slower.

Second derivatives are those of the definition, which is then run again.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from clew.ops import definition as ref
from clew.ops import scratch
from clew.ops.definition import Weights
from clew.tree import State

try:
    _native: Any = importlib.import_module("clew.ops._native")
except ImportError:
    _native = None

CELLS = {"tanh": (0, 1), "relu": (0, 1), "gru": (1, 3), "lstm": (2, 4)}  # csrc/scan.h: number, gates

FUSED = 3 << 18  # bytes of weights that a core's own cache holds beside the rest
ROWS = 4  # for a thread: with fewer, one product over all steps reads the weights less often


def native_info() -> dict[str, Any] | None:
    """How the compiled part was built (compiler, instruction set), or None where it is missing."""
    return None if _native is None else dict(_native.build_info())


def takes(x_BTI: Tensor, state: tuple[Tensor, ...], w: Weights) -> bool:
    """Whether the kernels can run this: plain tensors of one kind on the CPU, no projection, no transform around."""
    if _native is None or w.hr is not None or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    if torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
        return False
    tensors = (x_BTI, *state, *(t for t in w if isinstance(t, Tensor)))
    return x_BTI.dtype in (torch.float32, torch.float64) and all(
        type(t) in (Tensor, torch.nn.Parameter) and t.dtype == x_BTI.dtype and t.device.type == "cpu" for t in tensors
    )


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
    options = (cell, backwards, lengths, reset, torch.is_grad_enabled())  # inside the Function it never is
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
            return (None, *_definition_gradients(ctx.call.options, inputs, gradients, ctx.needs_input_grad[1:]))
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
        self.keeps = cell in ("gru", "lstm")
        self.gru = cell == "gru"
        self.B, self.T, self.I = x_BTI.shape
        self.H, self.wide = hh.shape[1], x_BTI.dtype == torch.float64
        self.V = _native.lanes(self.wide)
        self.HP = padded(self.H, self.V)
        self.lengths = None if lengths is None else lengths.to("cpu", torch.int64).contiguous()
        self.real_BT = ref.valid_steps(x_BTI, self.lengths)
        if reset is not None and self.backwards:
            reset = ref.piece_ends(reset, self.lengths)
        self.reset = None if reset is None else reset.to("cpu", torch.bool).contiguous()
        self.empty = x_BTI.new_empty
        self.seen = padded(self.H + self.I + 1, self.V)
        size = self.gates * self.HP * (self.I + self.H) * x_BTI.element_size()
        # The input's part within the kernel, where all weights stay in a core's cache and rows share them.
        self.fused = size <= FUSED and ROWS * torch.get_num_threads() <= self.B

    def forward(self, x_BTI, h0, c0, hr, cr, ih, hh, b_ih, b_hh, training):
        x_NI, bias, bias_n = self.pack(x_BTI), None, None
        if b_ih is not None:
            bias = b_ih + b_hh
            if self.gru:
                bias[2 * self.H :] = b_ih[2 * self.H :]
                bias_n = spread(b_hh[2 * self.H :], 1, self.V)
        elif self.gru:
            bias_n = ih.new_zeros(self.HP)
        kept = scratch.take(ih, len(x_NI), self.HP) if self.keeps and training else None
        shape = (self.B, self.T, self.H)
        y = self.empty(shape) if self.lengths is None else x_BTI.new_zeros(shape)
        h, c = self.empty(h0.shape), None if c0 is None else self.empty(c0.shape)
        wide = self.gates * self.HP
        gates = scratch.take(ih, len(x_NI), wide) if kept is not None or not self.fused else None
        reads = {"gates": gates}
        if self.fused:
            reads |= {"x": x_NI, "ih": ih, "x_bias": ih.new_zeros(wide) if bias is None else self.spread(bias)}
        elif bias is None:
            torch.mm(x_NI, self.spread(ih).t(), out=gates)
        else:
            torch.addmm(self.spread(bias), x_NI, self.spread(ih).t(), out=gates)
        self.run(False, hh=hh, bias=bias_n, kept=kept, h0=h0, c0=c0, hr=hr, cr=cr, y=y, h=h, c=c, **reads)
        if kept is None:
            scratch.give(gates)
            gates = None
        return gates, y, kept, h, *(() if c is None else (c,))

    def backward(self, inputs, y, gates, kept, gradients, needed):
        x_BTI, h0, c0, hr, cr, ih, hh, b_ih, _ = inputs
        dy, dh, dc = (*gradients, None)[:3]
        x_NI, H, I = self.pack(x_BTI), self.H, self.I
        gates = scratch.take(ih, len(x_NI), self.gates * self.HP) if gates is None else gates
        # What the gates were computed from, side by side: one product gives the gradients of both weights and the bias.
        seen = scratch.take(ih, len(x_NI), self.seen)
        seen[:, H : H + I], seen[:, H + I :], seen[:, H + I] = x_NI, 0.0, 1.0
        state = {"h0": h0, "c0": c0, "hr": hr, "cr": cr, "dh0": self.empty(h0.shape), "before": seen}
        state["dc0"] = None if c0 is None else self.empty(c0.shape)
        state["dhr"] = None if self.reset is None else h0.new_zeros(h0.shape)
        state["dcr"] = None if self.reset is None or c0 is None else c0.new_zeros(c0.shape)
        self.run(True, hh=hh, gates=gates, kept=kept, y=y, dy=dy, dh=dh, dc=dc, **state)
        d_hh = d_ih = db_ih = db_hh = dx = None
        if any(needed[5:]):
            d = self.gather(gates.t() @ seen)
            d_hh, d_ih, db_ih = d[:, :H], d[:, H : H + I], d[:, H + I]
            db_hh = db_ih.clone()  # a tensor of its own: gradients are changed in place
        if self.gru:  # n's part of the input stands before the reset gate, not behind it
            blocks = self.HP // self.V
            gates.view(-1, blocks, 3, self.V)[:, :, 2] = kept.view(-1, blocks, self.V)
            if d_ih is not None and db_ih is not None:
                d_n = (kept.t() @ seen[:, H:])[:H]
                d_ih = torch.cat([d_ih[: 2 * H], d_n[:, :I]])
                db_ih = torch.cat([db_ih[: 2 * H], d_n[:, I]])
        if needed[0]:
            dx = self.unpack(gates @ self.spread(ih))
        if b_ih is None:
            db_ih = db_hh = None
        scratch.give(gates, kept, seen)
        return dx, state["dh0"], state["dc0"], state["dhr"], state["dcr"], d_ih, d_hh, db_ih, db_hh

    def run(self, gradient: bool, **tensors: Tensor | None) -> None:
        """The kernels' pass over the tensors, named as in csrc/scan.h."""
        tensors |= {"lengths": self.lengths, "reset": self.reset}
        held = {name: t.contiguous() for name, t in tensors.items() if t is not None}
        addresses = {name: t.data_ptr() for name, t in held.items()}
        sizes = [self.B, self.T, self.I, self.H, self.HP, self.seen]
        how = self.backwards, self.options[0] == "relu"
        _native.scan(self.number, self.wide, gradient, torch.get_num_threads(), sizes, *how, addresses)

    def pack(self, x_BTI: Tensor) -> Tensor:
        """The real steps of all rows, (N, I)."""
        return x_BTI.flatten(0, 1) if self.real_BT is None else x_BTI[self.real_BT]

    def unpack(self, x_NI: Tensor) -> Tensor:
        """The inverse of `pack`; 0 on padding."""
        if self.real_BT is None:
            return x_NI.unflatten(0, (self.B, self.T))
        x_BTI = x_NI.new_zeros(self.B, self.T, x_NI.shape[1])
        x_BTI[self.real_BT] = x_NI
        return x_BTI

    def spread(self, w: Tensor) -> Tensor:
        return spread(w, self.gates, self.V)

    def gather(self, w: Tensor) -> Tensor:
        """The inverse of `spread`."""
        G, H, HP, V = self.gates, self.H, self.HP, self.V
        return w.unflatten(0, (HP // V, G, V)).transpose(0, 1).flatten(1, 2)[:, :H].flatten(0, 1)


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


def _definition_gradients(options, inputs, gradients, needed):
    """Gradients that can be derived again."""
    cell, backwards, lengths, begins, _ = options
    x_BTI, h0, c0, hr, cr, *weights = inputs
    state = (h0, ()) if c0 is None else (h0, c0, ())
    initial = (hr, ()) if cr is None else (hr, cr, ())

    def run(x: Tensor, reset: Tensor | None) -> tuple[Tensor, State]:
        return ref.run(cell, x, state, Weights(*weights), initial, lengths, reset)

    y, (*after, _) = ref.from_the_end(run, x_BTI, lengths, begins) if backwards else run(x_BTI, begins)
    wanted = [t for t, need in zip(inputs, needed, strict=True) if need]
    found = iter(torch.autograd.grad((y, *after), wanted, gradients, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]
