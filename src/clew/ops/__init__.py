"""The arithmetic of recurrences, by algebra and not by cell; the one place where an implementation is chosen.

Every op takes a whole sequence, the state before it and the state that a reset restores, and returns all outputs and
the state after it. Gradients flow through all of them.

    elman_scan, gru_scan, lstm_scan     x (B, T, I) and `Weights`; state (h, mask) or (h, c, mask)
    linear_scan                         h[t] = a[t] h[t-1] + b[t]; a, b (B, T, N), state (B, N)

`mask` is a per-sequence dropout mask on what the gates see of h (Gal & Ghahramani 2016), `()` when there is none.
`backwards` reads each row from its last real step to its first: y stands where its x does, and each piece that a reset
begins is read by itself.

Chosen by device, dtype and shape: the compiled kernels, torch's own where they do not take the case, else the
reference. `with ops.reference():` and `with ops.only("torch"):` leave less to choose from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
from torch import Tensor

from clew.ops import definition as ref
from clew.ops import native, ragged, torch_own
from clew.ops.definition import Norm, Weights, Zoneout
from clew.tree import State

__all__ = ["Norm", "Weights", "Zoneout", "elman_scan", "gru_scan", "linear_scan", "lstm_scan", "only", "reference"]

Implementation = Literal["torch", "reference"]
WORTH_PACKING = 8  # steps of all rows: for fewer, packing the weights takes longer than torch's own kernels

_only: ContextVar[Implementation | None] = ContextVar("clew_only", default=None)


@contextmanager
def only(implementation: Implementation) -> Iterator[None]:
    """Inside this block no op runs a compiled kernel of ours ("torch"), or anything but its definition ("reference").

    "torch" still means the definition where torch has no kernel for the case.
    """
    token = _only.set(implementation)
    try:
        yield
    finally:
        _only.reset(token)


def reference() -> AbstractContextManager[None]:
    """Inside this block every op runs its definition: for Jacobians, double backward, and to compare kernels with."""
    return only("reference")


def elman_scan(
    x_BTI: Tensor,
    state: State,
    w: Weights,
    nonlinearity: str = "tanh",
    *,
    initial: State,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    zoneout: Zoneout = Zoneout(),
    backwards: bool = False,
) -> tuple[Tensor, State]:
    """State (h (B, H), mask); outputs (B, T, H). `nonlinearity` is "tanh" or "relu"."""
    return _scan(nonlinearity, x_BTI, state, w, initial, lengths, reset, zoneout, backwards)


def gru_scan(
    x_BTI: Tensor,
    state: State,
    w: Weights,
    *,
    initial: State,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    zoneout: Zoneout = Zoneout(),
    backwards: bool = False,
) -> tuple[Tensor, State]:
    """State (h (B, H), mask); outputs (B, T, H)."""
    return _scan("gru", x_BTI, state, w, initial, lengths, reset, zoneout, backwards)


def lstm_scan(
    x_BTI: Tensor,
    state: State,
    w: Weights,
    *,
    initial: State,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    zoneout: Zoneout = Zoneout(),
    backwards: bool = False,
) -> tuple[Tensor, State]:
    """State (h (B, P), c (B, H), mask); outputs (B, T, P)."""
    return _scan("lstm", x_BTI, state, w, initial, lengths, reset, zoneout, backwards)


def linear_scan(
    a_BTN: Tensor,
    b_BTN: Tensor,
    h_BN: Tensor,
    *,
    initial: Tensor,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """All states h[t] = a[t] h[t-1] + b[t], (B, T, N), and the last, (B, N). Padded steps give 0 and keep the state."""

    def step(ab: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ab.chunk(2, -1)
        h = ref.linear_step(a, b, h)
        return h, h

    N = h_BN.shape[-1]
    return ref.scan(step, torch.cat([a_BTN, b_BTN], -1), h_BN, initial, lengths, reset, output_size=N)


def _scan(
    cell: str,
    x_BTI: Tensor,
    state: State,
    w: Weights,
    initial: State,
    lengths: Tensor | None,
    reset: Tensor | None,
    zoneout: Zoneout,
    backwards: bool,
) -> tuple[Tensor, State]:
    """The fastest implementation that takes the case. Kernels know no masks, norms, zoneout, or steps without time."""
    plain = w.norm is None and zoneout.h == zoneout.c == 0.0 and not isinstance(state[-1], Tensor)
    steps = x_BTI.shape[:2].numel()
    plain = plain and _only.get() != "reference" and steps > 0
    if (
        plain
        and _only.get() is None
        and steps >= WORTH_PACKING
        and native.takes(x_BTI, (*state[:-1], *initial[:-1]), w)
    ):
        y, after = native.scan(cell, x_BTI, state[:-1], w, initial[:-1], lengths, reset, backwards)
        return y, (*after, state[-1])

    def run(x: Tensor, reset: Tensor | None) -> tuple[Tensor, State]:
        if plain:
            return ragged.run(torch_own.kernel(cell, w), x, state, initial, lengths, reset)
        return ref.run(cell, x, state, w, initial, lengths, reset, zoneout)

    return ref.from_the_end(run, x_BTI, lengths, reset) if backwards else run(x_BTI, reset)
