"""The arithmetic of recurrences, by algebra and not by cell; the one place where an implementation is chosen.

Every op takes a whole sequence, the state before it and the state that a reset restores, and returns all outputs and
the state after it. Gradients flow through all of them.

    elman_scan, gru_scan, lstm_scan     x (B, T, I) and `Weights`; state (h, mask) or (h, c, mask)
    linear_scan                         h[t] = a[t] h[t-1] + b[t]; a, b (B, T, N), state (B, N)

`mask` is a per-sequence dropout mask on what the gates see of h (Gal & Ghahramani 2016), `()` when there is none.
Chosen by device, dtype and shape: torch's own kernel where it takes the case, else the reference. Under
`with ops.reference():` always the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from clew import tree
from clew.ops import definition as ref
from clew.ops import ragged, torch_own
from clew.ops.definition import Norm, Weights, Zoneout
from clew.tree import State

__all__ = ["Norm", "Weights", "Zoneout", "elman_scan", "gru_scan", "linear_scan", "lstm_scan", "reference"]

_only_reference: ContextVar[bool] = ContextVar("clew_only_reference", default=False)


@contextmanager
def reference() -> Iterator[None]:
    """Inside this block every op runs its definition: for Jacobians, double backward, and to compare kernels with."""
    token = _only_reference.set(True)
    try:
        yield
    finally:
        _only_reference.reset(token)


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
) -> tuple[Tensor, State]:
    """State (h (B, H), mask); outputs (B, T, H)."""
    if _torch_takes(x_BTI, state, w, zoneout):

        def kernel(x: Tensor, s: State, n: Tensor | None) -> tuple[Tensor, State]:
            y, h = torch_own.elman(x, s[0], w, nonlinearity)
            return y, (h if n is None else ragged.last_real(y, s[0], n), s[1])

        return ragged.run(kernel, x_BTI, state, initial, lengths, reset)

    def step(gx: Tensor, s: State) -> tuple[Tensor, State]:
        h = ref.elman_step(gx, s[0], seen(s[0], s[1]), w, nonlinearity, zoneout)
        return h, (h, s[1])

    return _scan(step, x_BTI, state, w, initial, lengths, reset)


def gru_scan(
    x_BTI: Tensor,
    state: State,
    w: Weights,
    *,
    initial: State,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    zoneout: Zoneout = Zoneout(),
) -> tuple[Tensor, State]:
    """State (h (B, H), mask); outputs (B, T, H)."""
    if _torch_takes(x_BTI, state, w, zoneout):

        def kernel(x: Tensor, s: State, n: Tensor | None) -> tuple[Tensor, State]:
            y, h = torch_own.gru(x, s[0], w)
            return y, (h if n is None else ragged.last_real(y, s[0], n), s[1])

        return ragged.run(kernel, x_BTI, state, initial, lengths, reset)

    def step(gx: Tensor, s: State) -> tuple[Tensor, State]:
        h = ref.gru_step(gx, s[0], seen(s[0], s[1]), w, zoneout)
        return h, (h, s[1])

    return _scan(step, x_BTI, state, w, initial, lengths, reset)


def lstm_scan(
    x_BTI: Tensor,
    state: State,
    w: Weights,
    *,
    initial: State,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    zoneout: Zoneout = Zoneout(),
) -> tuple[Tensor, State]:
    """State (h (B, P), c (B, H), mask); outputs (B, T, P)."""
    if _torch_takes(x_BTI, state, w, zoneout):

        def kernel(x: Tensor, s: State, n: Tensor | None) -> tuple[Tensor, State]:
            held = (x, w) if n is None else ragged.hold_cell(x, w, n)
            y, h, c = torch_own.lstm(held[0], s[0], s[1], held[1])
            if n is None:
                return y, (h, c, s[2])
            return y, (ragged.last_real(y, s[0], n), tree.where(n > 0, c, s[1]), s[2])

        return ragged.run(kernel, x_BTI, state, initial, lengths, reset)

    def step(gx: Tensor, s: State) -> tuple[Tensor, State]:
        h, c = ref.lstm_step(gx, s[0], s[1], seen(s[0], s[2]), w, zoneout)
        return h, (h, c, s[2])

    return _scan(step, x_BTI, state, w, initial, lengths, reset)


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


def seen(h: Tensor, mask: State) -> Tensor:
    """h as the gates see it: dropped out by the sequence's mask, if it has one."""
    return h * mask if isinstance(mask, Tensor) else h


def _scan(step, x_BTI: Tensor, state: State, w: Weights, initial: State, lengths, reset) -> tuple[Tensor, State]:
    real_BT = ref.valid_steps(x_BTI, lengths)
    if real_BT is not None:
        x_BTI = ref.hide_padding(x_BTI, real_BT)
    gates_BTG = ref.input_gates(x_BTI, w)
    return ref.scan(step, gates_BTG, state, initial, lengths, reset, output_size=state[0].shape[-1])


def _torch_takes(x_BTI: Tensor, state: State, w: Weights, zoneout: Zoneout) -> bool:
    """Torch's own kernels know no masks, norms, zoneout, or steps without time."""
    plain = w.norm is None and zoneout.h == zoneout.c == 0.0
    return plain and not _only_reference.get() and not isinstance(state[-1], Tensor) and x_BTI.shape[:2].numel() > 0
