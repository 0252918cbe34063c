"""Elman, GRU and LSTM on a GPU by the kernels of `gated`: what the input gives the gates is one product before, the
gradients of the weights are one product after.

They are run where they are asked for (`ops.only("triton")`): where they are faster than cuDNN is not measured yet.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clew.ops import definition as ref
from clew.ops import triton
from clew.ops.definition import Weights, Zoneout
from clew.ops.native import definition_gradients, untouched

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ROWS, UNITS, INNER = 16, 16, 64  # of a tile


class Case(NamedTuple):
    """What a pass is told beside its tensors."""

    cell: str
    lengths: Tensor | None
    reset: Tensor | None


def takes(x_BTI: Tensor, state: tuple[Tensor, ...], w: Weights) -> bool:
    """Whether the kernels can run this: no projection, one kind of tensor, on a GPU or interpreted."""
    given = (x_BTI, *state, *(t for t in w if isinstance(t, Tensor)))
    there = x_BTI.is_cuda or (triton.interpreted() and x_BTI.device.type == "cpu")
    if not there or w.hr is not None or any(leaf.shape != (len(x_BTI), w.hh.shape[1]) for leaf in state):
        return False
    alike = all(t.dtype == x_BTI.dtype and t.device == x_BTI.device for t in given)
    return alike and x_BTI.dtype in DTYPES and untouched(given, x_BTI.device.type) and triton.installed()


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
    H, bias, of_candidate = w.hh.shape[1], w.bias_ih, x_BTI.new_zeros(w.hh.shape[1])
    if bias is not None and w.bias_hh is not None:
        if cell == "gru":  # the state's part of the candidate stands by itself
            of_candidate, bias = w.bias_hh[2 * H :], bias + F.pad(w.bias_hh[: 2 * H], (0, H))
        else:
            bias = bias + w.bias_hh
    device = x_BTI.device
    case = Case(
        cell,
        None if lengths is None else lengths.to(device, torch.int64).clamp(0, x_BTI.shape[1]),
        None if reset is None else reset.to(device, copy=True).contiguous(),
    )
    gx_BTG = F.linear(x_BTI, w.ih, bias)
    c, cr = (state[1], initial[1]) if cell == "lstm" else (state[0], initial[0])
    y, h, c = _Run.apply(case, torch.is_grad_enabled(), gx_BTG, state[0], c, initial[0], cr, w.hh, of_candidate)
    return y, (h, c) if cell == "lstm" else (h,)


class _Run(torch.autograd.Function):
    @staticmethod
    def forward(ctx, case, differentiable, *tensors):
        training = differentiable and any(ctx.needs_input_grad)
        gx, h0, c0, hr, cr, hh, bn = (t.contiguous() for t in tensors)
        (B, T, _), H = gx.shape, hh.shape[1]
        y = gx.new_empty(B, T, H) if case.lengths is None else gx.new_zeros(B, T, H)
        h, c = h0.clone(), c0.float().clone()
        first = h if case.reset is None else torch.where(case.reset[:, :1], hr, h)
        if case.reset is not None and case.lengths is not None:
            first = torch.where(case.lengths[:, None] > 0, first, h)
        seen = torch.stack([first, first])
        kept = [gx.new_empty(0)] * 3
        if training:
            single = {"dtype": torch.float32}
            kept = [gx.new_zeros(B, T, 4 * H, **single), gx.new_zeros(B, T, H), gx.new_zeros(B, T, H, **single)]
        tensors_of_run = [gx, hh, bn, h, c, hr, cr, *_flags(case, h), y, seen, *kept]
        _launch(triton.kernels("gated").forward, case, tensors_of_run, (B, T, H), TRAINING=training)
        if training:
            ctx.case = case
            ctx.save_for_backward(*tensors, y, *kept)
        return y, h, c.to(c0.dtype)

    @staticmethod
    def backward(ctx, dy, dh, dc):
        case, (*tensors, y, gates, before, cells) = ctx.case, ctx.saved_tensors
        if torch.is_grad_enabled():
            wanted = ctx.needs_input_grad[2:]
            run = functools.partial(_defined, case)
            return (None, None, *definition_gradients(run, tensors, (dy, dh, dc), wanted))
        gx, hh = tensors[0], tensors[5].contiguous()
        (B, T, _), H = gx.shape, hh.shape[1]
        single = {"dtype": torch.float32, "memory_format": torch.contiguous_format, "copy": True}
        dh, dc = dh.to(**single), dc.to(**single)
        dhr, dcr = torch.zeros_like(dh), torch.zeros_like(dc)
        dgh = torch.zeros_like(gx, memory_format=torch.contiguous_format)
        dgx = torch.zeros_like(dgh) if case.cell == "gru" else dgh
        written = [dh, dc, dhr, dcr, dgx, dgh]
        given = [hh, *_flags(case, hh), y, gates, before, cells, dy.contiguous(), *written]
        _launch(triton.kernels("gated").backward, case, given, (B, T, H))
        dhh = dgh.flatten(0, 1).T @ before.flatten(0, 1)
        dbn = dgh[..., 2 * H :].sum((0, 1)) if case.cell == "gru" else None
        states = [t.to(gx.dtype) for t in (dh, dc, dhr, dcr)]
        if case.cell != "lstm":  # c stands for nothing
            states[1] = states[3] = None
        return (None, None, dgx, *states, dhh, dbn)


def _defined(case: Case, gx: Tensor, h0: Tensor, c0: Tensor, hr: Tensor, cr: Tensor, hh: Tensor, bn: Tensor) -> Any:
    """The same by the definition."""
    bias = F.pad(bn, (2 * len(bn), 0)) if case.cell == "gru" else None
    w, still = Weights(hh, hh, None, bias), Zoneout()

    def step(gx: Tensor, state: Any) -> Any:
        if case.cell == "lstm":
            state = ref.lstm_step(gx, state[0], state[1], state[0], w, still)
        elif case.cell == "gru":
            state = (ref.gru_step(gx, state[0], state[0], w, still), state[1])
        else:
            state = (ref.elman_step(gx, state[0], state[0], w, case.cell, still), state[1])
        return state[0], state

    y, state = ref.scan(step, gx, (h0, c0), (hr, cr), case.lengths, case.reset, hh.shape[1])
    return (y, *state)


def _flags(case: Case, like: Tensor) -> list[Tensor]:
    """Lengths and resets; where there are none, something that is never read."""
    return [like if t is None else t for t in (case.lengths, case.reset)]


def _launch(kernel: Any, case: Case, tensors: list[Tensor], sizes: tuple[int, int, int], **options: Any) -> None:
    """As many programs as run side by side: they wait for each other."""
    B, _, H = sizes
    x = tensors[0]
    groups, blocks = -(-B // ROWS), -(-H // UNITS)
    if x.is_cuda:
        at_once = torch.cuda.get_device_properties(x.device).multi_processor_count
        blocks = max(1, min(blocks, at_once // groups))
        options["launch_cooperative_grid"] = blocks > 1  # else nobody waits
    else:
        blocks = 1  # an interpreter runs one after the other
    counters = torch.zeros(groups, dtype=torch.int32, device=x.device)
    flags = {"CELL": case.cell, "RAGGED": case.lengths is not None, "RESETS": case.reset is not None}
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        kernel[(groups, blocks)](*tensors, counters, *sizes, **flags, BB=ROWS, BH=UNITS, BK=INNER, **options)
