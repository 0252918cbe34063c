"""The recurrences of `algebra`, many steps together: the same numbers in few calls of torch, on any device.

    linear, maximum     all steps at once, joined in pairs: see `chunked_joining`
    selective           the same within a chunk, chunk after chunk, as its states are many
    matrix              see `chunked_matrix`

    B batch, T time, N state, D channels; a complex number is a trailing pair

What is narrower than float32 is computed in float32. Very few steps, such as a single one, run the definition.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from clew.ops import algebra
from clew.ops import definition as ref
from clew.ops.chunked_joining import LINEAR, MAXIMUM, Joining

FEW = 4  # steps: fewer run the definition
CHUNK = 64  # steps of a selective scan whose states are there at once


def linear(
    a: Tensor, b: Tensor, h: Tensor, initial: Tensor, lengths: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `ops.linear_scan`."""
    if b.shape[1] < FEW:
        return algebra.linear(a, b, h, initial, lengths, reset)
    if h.ndim == 2:
        return _elementwise(LINEAR, (a, b, h, initial), lengths, reset)
    with exact((a, b, h, initial)) as (tensors, dtype):
        numbers = [torch.complex(*t.unbind(-1)) for t in tensors]
        y, h = (torch.stack([t.real, t.imag], -1).to(dtype) for t in _elementwise(LINEAR, numbers, lengths, reset))
    return y, h


def maximum(
    a: Tensor, b: Tensor, m: Tensor, initial: Tensor, lengths: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """See `ops.max_scan`."""
    if b.shape[1] < FEW:
        return algebra.maximum(a, b, m, initial, lengths, reset)
    return _elementwise(MAXIMUM, (a, b, m, initial), lengths, reset)


def selective(
    x_BTD: Tensor,
    dt_BTD: Tensor,
    A_DN: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    h_BDN: Tensor,
    initial: Tensor,
    lengths: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """See `ops.selective_scan`. The states of one chunk are there at once; the gradient's pass computes them anew.

    Under the transforms of torch.func, which do without checkpoints, the gradient's pass holds those of all steps.
    """
    if x_BTD.shape[1] < FEW:
        return algebra.selective(x_BTD, dt_BTD, A_DN, B_BTN, C_BTN, h_BDN, initial, lengths, reset)
    real_BT = ref.valid_steps(x_BTD, lengths)
    run = _selective_chunk
    if torch.is_grad_enabled() and not torch._C._are_functorch_transforms_active():
        run = functools.partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False)
    with exact((x_BTD, dt_BTD, B_BTN, C_BTN, A_DN, h_BDN, initial)) as ((*over_time, A_DN, h, initial), dtype):
        if real_BT is not None:
            over_time = [ref.hide_padding(t, real_BT) for t in over_time]
        left = None if lengths is None else lengths.to(h.device, torch.int64)
        cuts = [None] * x_BTD.shape[1] if reset is None else reset.split(CHUNK, 1)
        ys = []
        for given, cut in zip(zip(*(t.split(CHUNK, 1) for t in over_time), strict=True), cuts, strict=False):
            y, h = run(given, A_DN, h, initial, None if left is None else left.clamp(0, given[0].shape[1]), cut)
            left = None if left is None else left - CHUNK
            ys.append(y)
        y_BTD = torch.cat(ys, 1).to(dtype)
    return (y_BTD if real_BT is None else ref.hide_padding(y_BTD, real_BT)), h.to(dtype)


def _selective_chunk(
    given: tuple[Tensor, ...],
    A_DN: Tensor,
    h_BDN: Tensor,
    initial: Tensor,
    lengths: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor]:
    x_BTD, dt_BTD, B_BTN, C_BTN = given
    a_BTDN, b_BTDN = torch.exp(dt_BTD[..., None] * A_DN), (dt_BTD * x_BTD)[..., None] * B_BTN[:, :, None]
    a, b, h, initial = (t.flatten(-2) for t in (a_BTDN, b_BTDN, h_BDN, initial))
    h_BTDN, h_BDN = (t.unflatten(-1, A_DN.shape) for t in _states(LINEAR, a, b, h, initial, lengths, reset))
    return (h_BTDN @ C_BTN[..., None])[..., 0], h_BDN


def _elementwise(
    joining: Joining, tensors: Sequence[Tensor], lengths: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    real_BT = ref.valid_steps(tensors[1], lengths)
    with exact(tensors) as ((a, b, h, initial), dtype):
        if real_BT is not None:
            a, b = ref.hide_padding(a, real_BT), ref.hide_padding(b, real_BT)
        y, h = _states(joining, a, b, h, initial, lengths, reset)
    y, h = y.to(dtype), h.to(dtype)
    return (y if real_BT is None else ref.hide_padding(y, real_BT)), h


def _states(
    joining: Joining,
    a_BTN: Tensor,
    b_BTN: Tensor,
    h_BN: Tensor,
    initial: Tensor,
    lengths: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """All states, and each row's at its length; those behind it are nobody's."""
    cut, first, later = None, h_BN, b_BTN[:, 1:]
    if reset is not None:
        cut = reset.to(b_BTN.device)[:, :, None]
        first = torch.where(cut[:, 0], initial, first)
        restored = torch.where(cut[:, 1:], initial[:, None], joining.none)
        later = joining.step(a_BTN[:, 1:], later, restored)
    begun = joining.step(a_BTN[:, :1], b_BTN[:, :1], first[:, None])
    h_BTN = joining.states(a_BTN, torch.cat([begun, later], 1), cut)
    if lengths is None:
        return h_BTN, h_BTN[:, -1]
    n_B = lengths.to(h_BTN.device, torch.int64)
    last_BN = h_BTN[torch.arange(len(n_B), device=n_B.device), (n_B - 1).clamp(min=0)]
    return h_BTN, torch.where(n_B[:, None] > 0, last_BN, h_BN)


@contextmanager
def exact(tensors: Sequence[Tensor]) -> Iterator[tuple[list[Tensor], torch.dtype]]:
    """The tensors in one dtype, float32 at least, with no autocast around; and the dtype that results have."""
    dtype = functools.reduce(torch.promote_types, (t.dtype for t in tensors))
    wide, device = torch.promote_types(dtype, torch.float32), tensors[0].device.type
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        yield [t.to(wide) for t in tensors], dtype
