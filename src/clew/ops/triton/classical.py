"""Elman, GRU, LSTM and sLSTM on a GPU by the kernels of `gated`: what the input gives the gates is one product before,
the gradients of the weights are one product after.

Elman, GRU and LSTM are run where they were measured to be faster than cuDNN on this device (`tiles`), or asked for
(`ops.only("triton")`).
"""

from __future__ import annotations

import functools
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clew.ops import definition as ref
from clew.ops import triton
from clew.ops.definition import Weights, Zoneout
from clew.ops.native import definition_gradients, untouched
from clew.ops.triton import tiles
from clew.ops.triton.grid import GATES, Case, flags, launch
from clew.tree import State

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BATCHES, WIDTHS = (1, 16, 64, 256), (128, 256, 512, 1024)  # that are measured


def takes(x_BTI: Tensor, state: tuple[Tensor, ...], w: Weights, cell: str, asked: bool) -> bool:
    """Whether the kernels can run this, no projection, one kind of tensor, on a GPU or interpreted; and should: they
    are asked for, or were measured to be faster."""
    given = (x_BTI, *state, *(t for t in w if isinstance(t, Tensor)))
    H = state[0].shape[-1]
    if w.hr is not None or any(leaf.shape != (len(x_BTI), H) for leaf in state) or not can(given):
        return False
    return asked or (x_BTI.is_cuda and (w.hh.ndim == 3 or faster(cell, x_BTI, H)))


def can(given: tuple[Tensor, ...]) -> bool:
    """Whether the kernels can run this."""
    first = given[0]
    if not (first.is_cuda or (triton.interpreted() and first.device.type == "cpu")) or first.dtype not in DTYPES:
        return False
    alike = all(t.dtype == first.dtype and t.device == first.device for t in given)
    return alike and untouched(given, first.device.type) and triton.installed()


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
        tensors_of_run = [gx, hh, bn, h, c, hr, cr, *flags(case, h), y, seen, *kept]
        launch(triton.kernels("gated").forward, case, tensors_of_run, (B, T, H), hh, TRAINING=training)
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
        given = [hh, *flags(case, hh), y, gates, before, cells, dy.contiguous(), *written]
        launch(triton.kernels("gated").backward, case, given, (B, T, H), hh)
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
