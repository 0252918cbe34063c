"""The arithmetic of recurrences, by algebra and not by cell; the one place where an implementation is chosen.

Every op takes a whole sequence, the state before it and the state that a reset restores, and returns all outputs and
the state after it. Gradients flow through all of them.

    elman_scan, gru_scan, lstm_scan     x (B, T, I) and `Weights`; state (h, mask) or (h, c, mask)
    slstm_scan                          x as the gates see it; state (c, n, h, m)
    linear_scan, max_scan               one number a step and unit; state h (B, N), or complex (B, N, 2)
    selective_scan                      N numbers a channel; state h (B, D, N)
    matrix_scan                         a matrix a head; state S (B, H, K, V)
    short_conv                          a convolution over the last W steps; state (B, W - 1, D)

`mask` is a per-sequence dropout mask on what the gates see of h (Gal & Ghahramani 2016), `()` when there is none.
`backwards` reads each row from its last real step to its first: y stands where its x does, and each piece that a reset
begins is read by itself.

Chosen by device, dtype and shape: the compiled kernels on the CPU, Triton's on a GPU; where they do not take the case
torch's own, or what does many steps in few calls of torch; else the reference. `with ops.reference():` and
`with ops.only("torch"):` leave less to choose from. `with ops.decays() as kept:` gathers what the linear ones keep of
their states.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
from torch import Tensor

from clew.ops import algebra, native, native_linear, ragged, torch_own, triton
from clew.ops import definition as ref
from clew.ops.definition import Norm, Weights, Zoneout
from clew.ops.triton import classical, trust
from clew.tree import State

__all__ = [
    "Norm",
    "Weights",
    "Zoneout",
    "decays",
    "elman_scan",
    "gru_scan",
    "linear_scan",
    "lstm_scan",
    "matrix_scan",
    "max_scan",
    "only",
    "reference",
    "selective_scan",
    "short_conv",
    "slstm_scan",
]

Implementation = Literal["torch", "triton", "reference"]
WORTH_PACKING = 8  # steps of all rows: for fewer, packing the weights takes longer than torch's own kernels

_only: ContextVar[Implementation | None] = ContextVar("clew_only", default=None)


@contextmanager
def only(implementation: Implementation) -> Iterator[None]:
    """Inside this block no op runs a compiled kernel of ours ("torch"), or anything but its definition ("reference").

    "torch" still means the definition where there is neither a kernel of torch's nor a form in chunks. "triton" leaves
    Triton's kernels, interpreted where there is no GPU.
    """
    token = _only.set(implementation)
    try:
        yield
    finally:
        _only.reset(token)


def reference() -> AbstractContextManager[None]:
    """Inside this block every op runs its definition: for Jacobians, double backward, and to compare kernels with."""
    return only("reference")


_decays: ContextVar[list[Tensor] | None] = ContextVar("clew_decays", default=None)


@contextmanager
def decays() -> Iterator[list[Tensor]]:
    """Inside this block the shares of their states that linear recurrences keep, (B, T, ...) from 0 to 1, are added to
    the list, in the order in which they run; of a delta rule, what is kept where nothing is erased."""
    kept: list[Tensor] = []
    token = _decays.set(kept)
    try:
        yield kept
    finally:
        _decays.reset(token)


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


def slstm_scan(
    gx_BTHG: Tensor,
    state: State,
    hh_HDG: Tensor,
    *,
    exponential: bool,
    initial: State,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, State]:
    """State (c, n, h, m), each (B, H, D); outputs (B, T, H, D). What the input gives the gates (B, T, H, 4 D) and the
    weights (H, D, 4 D) are by head, then by gate; `exponential`: see `definition.slstm_step`."""
    given, only = (gx_BTHG, hh_HDG, *state, *initial), _only.get()
    if gx_BTHG.is_cuda and only != "reference" and (alike := _in_one_dtype(given)) is not None:
        gx_BTHG, hh_HDG, *states = (t for t in alike if t is not None)
        how = {"exponential": exponential, "lengths": lengths, "reset": reset}
        with torch.autocast("cuda", enabled=False):
            return slstm_scan(gx_BTHG, tuple(states[:4]), hh_HDG, initial=tuple(states[4:]), **how)
    cell = "slstm_exp" if exponential else "slstm"
    asked = only in (None, "triton") and (gx_BTHG.is_cuda or only is not None)
    if asked and gx_BTHG.shape[:2].numel() and classical.can(given) and _right(cell, gx_BTHG):
        return classical.slstm(gx_BTHG, state, hh_HDG, exponential, initial, lengths, reset)

    def step(gx_BHG: Tensor, state: State) -> tuple[Tensor, State]:
        return ref.slstm_step(gx_BHG, state, hh_HDG, exponential)

    return ref.scan(step, gx_BTHG, state, initial, lengths, reset, output_size=tuple(state[0].shape[1:]))


def linear_scan(
    a_BTN: Tensor,
    b_BTN: Tensor,
    h_BN: Tensor,
    *,
    initial: Tensor,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """All states h[t] = a[t] h[t-1] + b[t], (B, T, N), and the last, (B, N); complex where they are (..., N, 2).

    Padded steps give 0 and keep the state. `a` may be the same for all rows or steps: an expanded tensor is not copied.
    """
    kernel = native_linear.REAL if h_BN.ndim == 2 else native_linear.COMPLEX
    if (kept := _decays.get()) is not None:
        kept.append(a_BTN.detach().abs() if h_BN.ndim == 2 else a_BTN.detach().norm(dim=-1))
    return _linear(kernel, (a_BTN, b_BTN, h_BN, initial), lengths, reset)


def max_scan(
    a_BTN: Tensor,
    b_BTN: Tensor,
    m_BN: Tensor,
    *,
    initial: Tensor,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """All m[t] = max(m[t-1] + a[t], b[t]), (B, T, N), and the last: what keeps exponential gates in range."""
    return _linear(native_linear.MAXIMUM, (a_BTN, b_BTN, m_BN, initial), lengths, reset)


def selective_scan(
    x_BTD: Tensor,
    dt_BTD: Tensor,
    A_DN: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    h_BDN: Tensor,
    *,
    initial: Tensor,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y[t] = C[t] h[t] of h[t] = exp(dt[t] A) h[t-1] + dt[t] x[t] B[t], (B, T, D), and the last state (B, D, N)."""
    if (kept := _decays.get()) is not None:
        kept.append((dt_BTD.detach()[..., None] * A_DN.detach()).exp())
    tensors = (x_BTD, dt_BTD, A_DN, B_BTN, C_BTN, h_BDN, initial)
    return _linear(native_linear.SELECTIVE, tensors, lengths, reset)


def matrix_scan(
    q_BTGK: Tensor,
    k_BTGK: Tensor,
    v_BTHV: Tensor,
    w_BTHK: Tensor,
    S_BHKV: Tensor,
    *,
    initial: Tensor,
    erase: tuple[Tensor, Tensor] | None = None,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y[t] = S[t]' q[t] of S[t] = w[t] S[t-1] + a[t] (b[t]' S[t-1]) + k[t] v[t]', and the last state.

    Args:
        q_BTGK, k_BTGK: what is read and written by; G is H, or fewer where groups of neighbouring heads share these.
        w_BTHK: the decay of each row of S, or (B, T, H, 1) of all of it.
        erase: a and b (B, T, G, K): -beta k and k for the delta rule. None leaves that term out.

    Returns:
        outputs (B, T, H, V), 0 where padded, and the state (B, H, K, V).
    """
    if (kept := _decays.get()) is not None:
        kept.append(w_BTHK.detach())
    keys = q_BTGK, k_BTGK, *(erase or (None, None))
    if not q_BTGK.is_cuda and q_BTGK.shape[0] * q_BTGK.shape[2] < torch.get_num_threads():  # a thread takes a group
        keys = tuple(algebra.each_head(t, v_BTHV.shape[2]) for t in keys)
    q, k, a, b = keys
    return _linear(native_linear.MATRIX, (q, k, v_BTHV, w_BTHK, a, b, S_BHKV, initial), lengths, reset)


def short_conv(
    x_BTD: Tensor,
    past_BPD: Tensor,
    weight_DW: Tensor,
    bias_D: Tensor | None = None,
    *,
    silu: bool = False,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Causal convolution over time, channel by channel, and then silu if asked for; and the last P = W - 1 inputs.

    y[t] = sum over j of weight[:, j] x[t - P + j] + bias. A reset restores a past of zeros.
    """
    kernel = native_linear.CONV_SILU if silu else native_linear.CONV
    return _linear(kernel, (x_BTD, weight_DW, bias_D, past_BPD), lengths, reset)


def _linear(
    kernel: native_linear.Kernel, tensors: tuple[Tensor | None, ...], lengths: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    only = _only.get()
    if only != "reference" and (apart := _in_one_dtype(tensors)) is not None:
        with torch.autocast(tensors[0].device.type, enabled=False):  # pyright: ignore[reportOptionalMemberAccess]
            return _linear(kernel, apart, lengths, reset)
    if only is None and native_linear.takes(tensors):
        return native_linear.scan(kernel, tensors, lengths, reset)
    takes = only in (None, "triton") and triton.takes(kernel, tensors, only == "triton")
    if takes and _right(trust.NAMES[kernel.number], tensors[-1]):
        return triton.scan(kernel, tensors, lengths, reset)
    run = kernel.definition if only == "reference" else kernel.chunked
    return run(*tensors, lengths, reset)


def _right(name: str, like: Tensor | None) -> bool:
    """Whether a kernel that is run on a GPU gives the right numbers there."""
    return like is None or not like.is_cuda or trust.trusted(name, like.dtype, like.device)


def _in_one_dtype(tensors: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...] | None:
    """The tensors as kernels take them, where autocast is on; None where it is not."""
    given = [t for t in tensors if t is not None]
    device = given[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return None
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in given))
    return tuple(None if t is None else t.to(dtype) for t in tensors)


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
    steps, only, whole = x_BTI.shape[:2].numel(), _only.get(), ref.joined(w)
    plain = plain and only != "reference" and steps > 0
    if plain and only is None and steps >= WORTH_PACKING and native.takes(x_BTI, (*state[:-1], *initial[:-1]), whole):
        y, after = native.scan(cell, x_BTI, state[:-1], whole, initial[:-1], lengths, reset, backwards)
        return y, (*after, state[-1])

    def run(x: Tensor, reset: Tensor | None) -> tuple[Tensor, State]:
        given = (*state[:-1], *initial[:-1])
        takes = plain and only in (None, "triton") and classical.takes(x, given, w, cell, only == "triton")
        if takes and _right(cell, x):
            y, after = classical.scan(cell, x, state[:-1], w, initial[:-1], lengths, reset)
            return y, (*after, state[-1])
        if plain:
            return ragged.run(torch_own.kernel(cell, whole), x, state, initial, lengths, reset)
        return ref.run(cell, x, state, whole, initial, lengths, reset, zoneout)

    return ref.from_the_end(run, x_BTI, lengths, reset) if backwards else run(x_BTI, reset)
