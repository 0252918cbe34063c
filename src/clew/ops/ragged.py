"""Padding and resets around kernels that know neither, such as torch's own.

A kernel here is `(x_BTI, state, lengths) -> (y_BTP, state)`; what it gives on padding may be anything finite.

reset     the sequence is cut at every step in which some row begins anew, and the pieces run one after another
padding   runs on as if it were real, which moves no output before it. What the real steps left behind is read back:
          h is the last real output; the LSTM's c, which is no output, is held still by gates that a further input
          column closes (i = 0) and opens (f = 1), exactly, as a sigmoid is in floating point at 10,000
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from clew import tree
from clew.ops import definition as ref
from clew.ops.definition import Weights
from clew.tree import State

Kernel = Callable[[Tensor, State, Tensor | None], tuple[Tensor, State]]

SHUT = 1e4  # a pre-activation at which a sigmoid is 0 or 1 and has no slope, in single and in double precision


def run(
    kernel: Kernel, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, State]:
    """Run `kernel(x, state, lengths)` over each piece between resets; outputs are 0 on padding."""
    real_BT = ref.valid_steps(x_BTI, lengths)
    if real_BT is not None:
        x_BTI = ref.hide_padding(x_BTI, real_BT)
        reset = None if reset is None else reset & real_BT  # a padded step changes nothing
    begins = [] if reset is None else reset.any(0).nonzero().flatten().tolist()
    cuts = [*({0, *begins}), x_BTI.shape[1]]
    ys = []
    for t, end in pairwise(sorted(cuts)):
        before = state if reset is None else tree.where(reset[:, t], initial, state)
        inside = None if lengths is None else (lengths.to(x_BTI.device, torch.int64) - t).clamp(0, end - t)
        y, state = kernel(x_BTI[:, t:end], before, inside)
        ys.append(y)
    y_BTP = ys[0] if len(ys) == 1 else torch.cat(ys, 1)
    return (y_BTP if real_BT is None else ref.hide_padding(y_BTP, real_BT)), state


def last_real(y_BTP: Tensor, h_BP: Tensor, lengths: Tensor) -> Tensor:
    """Each row's output at its last real step, h where it has none."""
    n_B = lengths.to(y_BTP.device, torch.int64)
    last = ref.pick_steps(y_BTP, (n_B - 1).clamp(min=0)[:, None])[:, 0]
    return torch.where((n_B > 0)[:, None], last, h_BP)


def hold_cell(x_BTI: Tensor, w: Weights, lengths: Tensor) -> tuple[Tensor, Weights]:
    """Inputs and weights of an LSTM with a further column that is 1 on padding, where it closes i and opens f."""
    H = w.ih.shape[0] // 4
    padded_BT1 = (~ref.valid_steps(x_BTI, lengths)).to(x_BTI.dtype)[:, :, None]  # pyright: ignore[reportOptionalOperand]
    gate_G1 = x_BTI.new_tensor([-SHUT, SHUT, 0.0, 0.0]).repeat_interleave(H)[:, None]
    return torch.cat([x_BTI, padded_BT1], 2), w._replace(ih=torch.cat([w.ih, gate_G1], 1))
