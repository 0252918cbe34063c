"""Elman, GRU, LSTM and sLSTM on a GPU by the kernels of `gated`: what the input gives the gates is one product before,
the gradients of the weights are one product after.

Elman, GRU and LSTM are run where they were measured to be faster than cuDNN on this device (`tiles`), or asked for
(`ops.only("triton")`).
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clew.ops import definition as ref
from clew.ops import triton
from clew.ops.definition import Weights, Zoneout
from clew.ops.native import definition_gradients, untouched
from clew.ops.triton import tiles, trust
from clew.tree import State

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
GATES = {"tanh": 1, "relu": 1, "gru": 3, "lstm": 4, "slstm": 4, "slstm_exp": 4}
LEAST, ROWS, UNITS, INNER = 16, (16, 32, 64, 128), (16, 32, 64), 64  # sides of a tile
PARTS = 4  # of the sums over all gates
HELD, HELD_BACK = 220 << 10, 64 << 10  # bytes of a product whose weights are held: in shared memory, in registers
SINGLE = 256  # numbers of a product in single precision whose weights are in registers, where there is one gate
BATCHES, WIDTHS = (1, 16, 64, 256), (128, 256, 512, 1024)  # that are measured


class Case(NamedTuple):
    """What a pass is told beside its tensors."""

    cell: str
    lengths: Tensor | None
    reset: Tensor | None


class Shape(NamedTuple):
    """How the work is shared out."""

    rows: int  # of a program
    units: int  # that a program has at once
    blocks: int  # programs that go over the units of a head
    inner: int  # numbers that a product goes over at once
    held: bool  # whether that is all of them, so that the weights are read once


def takes(x_BTI: Tensor, state: tuple[Tensor, ...], w: Weights, cell: str, asked: bool) -> bool:
    """Whether the kernels can run this, no projection, one kind of tensor, on a GPU or interpreted; and should: they
    are asked for, or were measured to be faster."""
    given = (x_BTI, *state, *(t for t in w if isinstance(t, Tensor)))
    H = state[0].shape[-1]
    if w.hr is not None or any(leaf.shape != (len(x_BTI), H) for leaf in state) or not can(cell, given):
        return False
    return asked or (x_BTI.is_cuda and (w.hh.ndim == 3 or faster(cell, x_BTI, H)))


def can(cell: str, given: tuple[Tensor, ...]) -> bool:
    """Whether the kernels can run this, and are right on this device."""
    first = given[0]
    if not (first.is_cuda or (triton.interpreted() and first.device.type == "cpu")) or first.dtype not in DTYPES:
        return False
    alike = all(t.dtype == first.dtype and t.device == first.device for t in given)
    if not alike or not untouched(given, first.device.type) or not triton.installed():
        return False
    return not first.is_cuda or trust.trusted(cell, first.dtype, first.device)


def faster(cell: str, x_BTI: Tensor, H: int) -> bool:
    """Whether these kernels beat cuDNN's on this device at all shapes around this one that were measured (`tiles`)."""
    B, known = len(x_BTI), tiles.of("classical", x_BTI.device)
    around = [shape_name(cell, x_BTI.dtype, *shape) for shape in product(_around(B, BATCHES), _around(H, WIDTHS))]
    return bool(around) and all(known.get(name, 0) >= tiles.WORTH for name in around)


def _around(size: int, measured: tuple[int, ...]) -> set[int]:
    """The nearest below and above; none where it lies outside."""
    if not measured[0] <= size <= measured[-1]:
        return set()
    return {max(n for n in measured if n <= size), min(n for n in measured if n >= size)}


def shape_name(cell: str, dtype: torch.dtype, B: int, H: int) -> str:
    """Of what is measured as one: either of Elman's, and both kinds of half precision."""
    cell, half = "tanh" if cell == "relu" else cell, dtype != torch.float32
    return f"{cell} {'bfloat16' if half else 'float32'} {B}x{H}"


def scan(
    cell: str,
    x_BTI: Tensor,
    state: tuple[Tensor, ...],
    w: Weights,
    initial: tuple[Tensor, ...],
    lengths: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (B, T, H), 0 on padding, and the state after each row's last real step; see `native.scan`."""
    real_BT = ref.valid_steps(x_BTI, lengths)
    if real_BT is not None:
        x_BTI = ref.hide_padding(x_BTI, real_BT)
    H, bias, of_candidate = state[0].shape[1], w.bias_ih, x_BTI.new_zeros(state[0].shape[1])
    if bias is not None and w.bias_hh is not None:
        if cell == "gru":  # the state's part of the candidate stands by itself
            of_candidate, bias = w.bias_hh[2 * H :], bias + F.pad(w.bias_hh[: 2 * H], (0, H))
        else:
            bias = bias + w.bias_hh
    gx_BTG = F.linear(x_BTI, w.ih, bias)
    c, cr = (state[1], initial[1]) if cell == "lstm" else (state[0], initial[0])
    hh = w.hh if w.hh.ndim == 3 else w.hh[None]
    y, h, c = run(cell, gx_BTG, (state[0], c[None]), (initial[0], cr[None]), hh, of_candidate, lengths, reset)
    return y, (h, c[0]) if cell == "lstm" else (h,)


def slstm(
    gx_BTHG: Tensor,
    state: State,
    hh_HDG: Tensor,
    exponential: bool,
    initial: State,
    lengths: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, State]:
    """See `ops.slstm_scan`."""
    wide = tuple(state[0].shape[1:])
    real_BT = ref.valid_steps(gx_BTHG, lengths)
    if real_BT is not None:
        gx_BTHG = ref.hide_padding(gx_BTHG, real_BT)
    gx_BTG = gx_BTHG.unflatten(3, (4, -1)).transpose(2, 3).flatten(2)
    first, again = ((h.flatten(1), torch.stack([c, n, m]).flatten(2)) for c, n, h, m in (state, initial))
    cell, none = "slstm_exp" if exponential else "slstm", gx_BTHG.new_zeros(first[0].shape[1])
    y, h, c = run(cell, gx_BTG, first, again, hh_HDG.mT, none, lengths, reset)
    c, n, m = c.unflatten(2, wide)
    return y.unflatten(2, wide), (c, n, h.unflatten(1, wide), m)


def run(
    cell: str,
    gx_BTG: Tensor,
    state: tuple[Tensor, Tensor],
    initial: tuple[Tensor, Tensor],
    hh: Tensor,
    bn: Tensor,
    lengths: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, h and c.

    Args:
        gx_BTG: what the input gives the gates, gate by gate.
        state, initial: h (B, H) and c (1, B, H); of an sLSTM c, n and m (3, B, H).
        hh: (heads, G D, D).
        bn: (H,) a GRU's bias of the state's part of the candidate.
    """
    device = gx_BTG.device
    case = Case(
        cell,
        None if lengths is None else lengths.to(device, torch.int64).clamp(0, gx_BTG.shape[1]),
        None if reset is None else reset.to(device, copy=True).contiguous(),
    )
    (h, c), (hr, cr) = state, initial
    return _Run.apply(case, torch.is_grad_enabled(), gx_BTG, h, c, hr, cr, hh, bn)


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx, case, differentiable, *tensors):
        training = differentiable and any(ctx.needs_input_grad)
        gx, h0, c0, hr, cr, hh, bn = (t.contiguous() for t in tensors)
        (B, T, _), H = gx.shape, h0.shape[1]
        y = gx.new_empty(B, T, H) if case.lengths is None else gx.new_zeros(B, T, H)
        h, c = h0.clone(), c0.to(torch.float32, copy=True)
        first = h if case.reset is None else torch.where(case.reset[:, :1], hr, h)
        if case.reset is not None and case.lengths is not None:
            first = torch.where(case.lengths[:, None] > 0, first, h)
        seen = torch.stack([first, first])
        kept = [gx.new_empty(0)] * 3  # gates, h before each step, and c
        if training:
            G, make = GATES[case.cell], gx.new_empty if case.lengths is None else gx.new_zeros
            single = {"dtype": torch.float32}
            kept = [make((B, T, 4 * H if G > 1 else 0), **single), make((B, T, H))]
            kept.append(make((len(c), B, T, H if G > 3 else 0), **single))
        tensors_of_run = [gx, hh, bn, h, c, hr, cr, *_flags(case, h), y, seen, *kept]
        _launch(triton.kernels("gated").forward, case, tensors_of_run, (B, T, H), hh, TRAINING=training)
        if training:
            ctx.case = case
            ctx.save_for_backward(*tensors, y, *kept)
        return y, h, c.to(c0.dtype)

    @staticmethod
    def backward(ctx, dy, dh, dc):
        case, (*tensors, y, gates, before, cells) = ctx.case, ctx.saved_tensors
        if torch.is_grad_enabled():
            wanted = ctx.needs_input_grad[2:]
            run = functools.partial(defined, case)
            return (None, None, *definition_gradients(run, tensors, (dy, dh, dc), wanted))
        gx, hh = tensors[0], tensors[5].contiguous()
        (B, T, _), H = gx.shape, dh.shape[1]
        single = {"dtype": torch.float32, "memory_format": torch.contiguous_format, "copy": True}
        dh, dc = dh.to(**single), dc.to(**single)
        dhr, dcr = torch.zeros_like(dh), torch.zeros_like(dc)
        dgh = torch.zeros_like(gx, memory_format=torch.contiguous_format)
        dgx = torch.zeros_like(dgh) if case.cell == "gru" else dgh
        written = [dh, dc, dhr, dcr, dgx, dgh]
        given = [hh, *_flags(case, hh), y, gates, before, cells, dy.contiguous(), *written]
        _launch(triton.kernels("gated").backward, case, given, (B, T, H), hh)
        heads, _, D = hh.shape
        asked, seen = dgh.view(B * T, -1, heads, D), before.view(B * T, heads, D)
        dhh = torch.einsum("ngid,nik->igdk", asked, seen).flatten(1, 2)
        dbn = dgh[..., 2 * H :].sum((0, 1)) if case.cell == "gru" else None
        states = [t.to(gx.dtype) for t in (dh, dc, dhr, dcr)]
        if GATES[case.cell] < 4:  # c stands for nothing
            states[1] = states[3] = None
        return (None, None, dgx, *states, dhh, dbn)


def defined(case: Case, gx: Tensor, h0: Tensor, c0: Tensor, hr: Tensor, cr: Tensor, hh: Tensor, bn: Tensor) -> Any:
    """The same by the definition."""
    bias = F.pad(bn, (2 * len(bn), 0)) if case.cell == "gru" else None
    w, still, wide = Weights(hh, hh, None, bias), Zoneout(), (len(hh), -1)

    def step(gx: Tensor, state: Any) -> Any:
        h, c = state
        if case.cell == "lstm":
            h, c = ref.lstm_step(gx, h, c[:, 0], h, w, still)
            return h, (h, c[:, None])
        if GATES[case.cell] == 4:
            by_head = gx.unflatten(1, (4, *wide)).transpose(1, 2).flatten(2)
            c, n, m = c.unflatten(2, wide).unbind(1)
            h, (c, n, _, m) = ref.slstm_step(by_head, (c, n, h.unflatten(1, wide), m), hh.mT, case.cell == "slstm_exp")
            return h.flatten(1), (h.flatten(1), torch.stack([c, n, m], 1).flatten(2))
        h = ref.gru_step(gx, h, h, w, still) if case.cell == "gru" else ref.elman_step(gx, h, h, w, case.cell, still)
        return h, (h, c)

    first, again = ((h, c.transpose(0, 1)) for h, c in ((h0, c0), (hr, cr)))
    y, (h, c) = ref.scan(step, gx, first, again, case.lengths, case.reset, h0.shape[1])
    return y, h, c.transpose(0, 1)


def _flags(case: Case, like: Tensor) -> list[Tensor]:
    """Lengths and resets; where there are none, something that is never read."""
    return [like if t is None else t for t in (case.lengths, case.reset)]


def shared_out(case: Case, B: int, hh: Tensor, at_once: int, backward: bool) -> Shape:
    """As many programs as run side by side, as they wait for each other; small ones first, whose weights are held."""
    (heads, _, D), G, single = hh.shape, GATES[case.cell], hh.dtype == torch.float32
    across = PARTS if backward else (1 if G == 1 else 4)  # of which a GRU leaves one empty
    inner = max(LEAST, _power(-(-G * D // PARTS) if backward else D))
    for rows in (n for n in ROWS if n < 2 * max(B, LEAST)):
        for units in (n for n in UNITS if n < 2 * max(D, LEAST) and (n >= D or UNITS[-1] < D)):  # of one, nobody waits
            groups, blocks = -(-B // rows) * heads, -(-D // units)
            size = inner * hh.element_size() * (across * units + rows * (PARTS if backward else 1))
            size *= 2 if single and not backward else 1  # products in single precision keep two copies
            fits = size <= (HELD_BACK if backward else HELD) and not (single and G == 1 and inner > SINGLE)
            if fits and (blocks == 1 or groups * blocks <= at_once):
                return Shape(rows, units, blocks, inner, held=True)
    rows = next((n for n in ROWS if -(-B // n) * heads <= at_once), ROWS[-1])
    blocks = max(1, min(-(-D // UNITS[0]), at_once // (-(-B // rows) * heads)))
    return Shape(rows, UNITS[0], blocks, max(LEAST, min(inner, INNER, INNER * 64 // rows)), held=False)


def _launch(
    kernel: Any, case: Case, tensors: list[Tensor], sizes: tuple[int, int, int], hh: Tensor, **options: Any
) -> None:
    backward, (heads, _, D) = "TRAINING" not in options, hh.shape
    shape = shared_out(case, sizes[0], hh, tiles.programs(hh.device), backward)
    groups = -(-sizes[0] // shape.rows) * heads
    if hh.is_cuda:
        options["launch_cooperative_grid"] = shape.blocks > 1  # else nobody waits
    counters = torch.zeros(groups, dtype=torch.int32, device=hh.device)
    flags = {"CELL": case.cell, "RAGGED": case.lengths is not None, "RESETS": case.reset is not None}
    flags |= {"HELD": shape.held, "BB": shape.rows, "BH": shape.units, "BK": shape.inner}
    flags |= {"DOT": "tf32x3" if hh.dtype == torch.float32 else "tf32"} | ({"PARTS": PARTS} if backward else {})
    # Nothing is fetched ahead: what was, would not stay in the nearest cache.
    flags |= {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": True}
    with torch.cuda.device(hh.device) if hh.is_cuda else nullcontext():
        kernel[groups, shape.blocks](*tensors, counters, *sizes, D, heads, **flags, **options)


def _power(size: int) -> int:
    return 1 << max(size - 1, 0).bit_length()
