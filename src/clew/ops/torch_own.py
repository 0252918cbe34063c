"""Torch's own kernels (oneDNN, cuDNN, ATen's loops) as `ops.ragged` runs them: one layer, one direction."""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import torch
from torch import Tensor

from clew import tree
from clew.ops import ragged
from clew.ops.definition import Weights
from clew.tree import State


def kernel(cell: str, w: Weights) -> ragged.Kernel:
    """That of "tanh", "relu", "gru" or "lstm"."""

    def run(x_BTI: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        h, mask = state[0], state[-1]
        if cell != "lstm":
            y, after = gru(x_BTI, h, w) if cell == "gru" else elman(x_BTI, h, w, cell)
            return y, (after if lengths is None else ragged.last_real(y, h, lengths), mask)
        if lengths is None:
            y, after, c = lstm(x_BTI, h, state[1], w)
            return y, (after, c, mask)
        x_BTI, held = ragged.hold_cell(x_BTI, w, lengths)
        y, _, c = lstm(x_BTI, h, state[1], held)
        return y, (ragged.last_real(y, h, lengths), tree.where(lengths > 0, c, state[1]), mask)

    return run


def _arguments(w: Weights) -> tuple[list[Tensor], bool]:
    biases = [b for b in (w.bias_ih, w.bias_hh) if b is not None]
    projection = [w.hr] if w.hr is not None else []
    return [w.ih, w.hh, *biases, *projection], bool(biases)


def _train() -> bool:
    """cuDNN keeps what the backward pass needs only when told that this is training; there is no dropout here."""
    return torch.is_grad_enabled()


def elman(x_BTI: Tensor, h_BH: Tensor, w: Weights, nonlinearity: str) -> tuple[Tensor, Tensor]:
    weights, biased = _arguments(w)
    run = torch.rnn_tanh if nonlinearity == "tanh" else torch.rnn_relu
    y, h = run(x_BTI, h_BH[None].contiguous(), weights, biased, 1, 0.0, _train(), False, True)
    return y, h[0]


def gru(x_BTI: Tensor, h_BH: Tensor, w: Weights) -> tuple[Tensor, Tensor]:
    weights, biased = _arguments(w)
    y, h = torch.gru(x_BTI, h_BH[None].contiguous(), weights, biased, 1, 0.0, _train(), False, True)
    return y, h[0]


def lstm(x_BTI: Tensor, h_BP: Tensor, c_BH: Tensor, w: Weights) -> tuple[Tensor, Tensor, Tensor]:
    weights, biased = _arguments(w)
    hx = (h_BP[None].contiguous(), c_BH[None].contiguous())
    with warnings.catch_warnings() if w.hr is not None else nullcontext():
        if w.hr is not None:  # oneDNN has no projections and says so; ATen's own kernel takes over
            warnings.filterwarnings("ignore", "LSTM with projections")
        y, h, c = torch.lstm(x_BTI, hx, weights, biased, 1, 0.0, _train(), False, True)
    return y, h[0], c[0]
