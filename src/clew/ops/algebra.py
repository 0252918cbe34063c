"""The definition of the recurrences that are linear in their state, by algebra, in plain torch.

    linear      h[t] = a[t] h[t-1] + b[t]                                     elementwise; real or complex
    maximum     m[t] = max(m[t-1] + a[t], b[t])                               the same over (max, +)
    selective   h[t] = exp(dt[t] A) h[t-1] + dt[t] x[t] B[t],  y = C h        a state per channel
    matrix      S[t] = w[t] S[t-1] + a[t] (b[t]' S[t-1]) + k[t] v[t]',  y = S' q      a matrix per head

    B batch, T time, N state, D channels, H heads in G groups, K keys, V values; a complex number is a trailing pair

The rules of time (padding, resets, no steps at all) are those of `definition.scan`. Kernels are faster ways to these
numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clew.errors import ShapeError
from clew.ops import definition as ref


def linear_step(a_BN: Tensor, b_BN: Tensor, h_BN: Tensor) -> Tensor:
    """h' = a h + b, elementwise; complex where h is (B, N, 2)."""
    if h_BN.ndim == 2:
        return a_BN * h_BN + b_BN
    (ar, ai), (hr, hi) = a_BN.unbind(-1), h_BN.unbind(-1)
    return torch.stack([ar * hr - ai * hi, ar * hi + ai * hr], -1) + b_BN


def maximum_step(a_BN: Tensor, b_BN: Tensor, m_BN: Tensor) -> Tensor:
    """m' = max(m + a, b): the stabiliser of exponential gates. Of two equal ones the first has the gradient."""
    kept = m_BN + a_BN
    return torch.where(kept >= b_BN, kept, b_BN)


def selective_step(
    x_BD: Tensor, dt_BD: Tensor, A_DN: Tensor, B_BN: Tensor, C_BN: Tensor, h_BDN: Tensor
) -> tuple[Tensor, Tensor]:
    """Selective state space (Gu & Dao 2023, arXiv:2312.00752, algorithm 2), A diagonal and discretised exactly."""
    h_BDN = torch.exp(dt_BD[:, :, None] * A_DN) * h_BDN + (dt_BD * x_BD)[:, :, None] * B_BN[:, None]
    return (h_BDN * C_BN[:, None]).sum(-1), h_BDN


def matrix_step(
    q_BHK: Tensor,
    k_BHK: Tensor,
    v_BHV: Tensor,
    w_BHK: Tensor,
    erase: tuple[Tensor, Tensor] | None,
    S_BHKV: Tensor,
) -> tuple[Tensor, Tensor]:
    """One step of the matrix state; w is (B, H, K), or (B, H, 1) for a decay of the whole head."""
    after = w_BHK[..., None] * S_BHKV + k_BHK[..., None] * v_BHV[:, :, None]
    if erase is not None:
        a_BHK, b_BHK = erase
        after = after + a_BHK[..., None] * (b_BHK[..., None] * S_BHKV).sum(-2, keepdim=True)
    return (q_BHK[..., None] * after).sum(-2), after


def linear(a: Tensor, b: Tensor, h: Tensor, initial: Tensor, lengths: Tensor | None, reset: Tensor | None):
    def step(given, h):
        a, b = given
        h = linear_step(a, b, h)
        return h, h

    return ref.scan(step, (a, b), h, initial, lengths, reset, output_size=tuple(h.shape[1:]))


def maximum(a: Tensor, b: Tensor, m: Tensor, initial: Tensor, lengths: Tensor | None, reset: Tensor | None):
    def step(given, m):
        a, b = given
        m = maximum_step(a, b, m)
        return m, m

    return ref.scan(step, (a, b), m, initial, lengths, reset, output_size=m.shape[-1])


def selective(x, dt, A_DN, B, C, h, initial, lengths, reset):
    def step(given, h):
        x, dt, B, C = given
        return selective_step(x, dt, A_DN, B, C, h)

    return ref.scan(step, (x, dt, B, C), h, initial, lengths, reset, output_size=x.shape[-1])


def each_head(x_BTGK: Tensor | None, heads: int) -> Tensor | None:
    """What the heads of a group share, for each of them: (B, T, heads, K)."""
    if x_BTGK is None or x_BTGK.shape[2] == heads:
        return x_BTGK
    return x_BTGK.repeat_interleave(heads_of_group(heads, x_BTGK.shape[2]), 2)


def heads_of_group(heads: int, groups: int) -> int:
    """How many heads share keys. Raises ShapeError where not all groups have as many."""
    if not groups or heads % groups:
        raise ShapeError(f"{heads} heads cannot share {groups} keys equally")
    return heads // groups


def matrix(q, k, v, w, a, b, S, initial, lengths, reset):
    q, k, a, b = (each_head(t, v.shape[2]) for t in (q, k, a, b))

    def step(given, S):
        q, k, v, w, *erase = given
        return matrix_step(q, k, v, w, (erase[0], erase[1]) if erase else None, S)

    given = (q, k, v, w) if a is None else (q, k, v, w, a, b)
    return ref.scan(step, given, S, initial, lengths, reset, output_size=tuple(v.shape[2:]))
