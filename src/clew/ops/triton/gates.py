# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
"""The arithmetic of one step of the gated cells, for `gated`: device functions over tiles, in single precision.

What they keep for the gradient are four numbers a unit, of which a cell names as many as it needs.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def tanh(x):
    """Of e^-2|x|, which cannot overflow."""
    e = tl.exp(-2.0 * tl.abs(x))
    y = (1.0 - e) / (1.0 + e)
    return tl.where(x < 0.0, -y, y)


@triton.jit
def log_sigmoid(x):
    return tl.minimum(x, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def lstm(i, f, g, o, c):
    """The cell and the output, and the gates."""
    i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    c = f * c + i * g
    return c, o * tanh(c), i, f, g, o


@triton.jit
def lstm_gradient(dh, dc, i, f, g, o, c):
    """Of the gates before they were squashed, and of c before the step."""
    read = tanh(f * c + i * g)
    dc += dh * o * (1.0 - read * read)
    return dc * g * i * (1.0 - i), dc * c * f * (1.0 - f), dc * i * (1.0 - g * g), dh * read * o * (1.0 - o), dc * f


@triton.jit
def gru(r, u, n, hn, h):
    """`n` is what the input gives the candidate, `hn` what the state gives it."""
    r, u = sigmoid(r), sigmoid(u)
    n = tanh(n + r * hn)
    return n + u * (h - n), r, u, n


@triton.jit
def gru_gradient(dh, r, u, n, hn, h):
    """Of r, u and n before they were squashed, and of h past the gates."""
    dn = dh * (1.0 - u) * (1.0 - n * n)
    return dn * hn * r * (1.0 - r), dh * (h - n) * u * (1.0 - u), dn, dh * u


@triton.jit
def _stabilised(i, f, m, EXPONENTIAL: tl.constexpr):
    """log of the forget gate with the old stabiliser, the new stabiliser, and the shares kept and written."""
    forget = m + (f if EXPONENTIAL else log_sigmoid(f))
    m = tl.maximum(forget, i)
    return forget, m, tl.exp(forget - m), tl.exp(i - m)


@triton.jit
def slstm(i, f, z, o, c, n, m, EXPONENTIAL: tl.constexpr):
    _, m, kept, written = _stabilised(i, f, m, EXPONENTIAL)
    z, o = tanh(z), sigmoid(o)
    c, n = kept * c + written * z, kept * n + written
    return c, n, m, o * c / n, z, o


@triton.jit
def slstm_gradient(dh, dc, dn, dm, i, f, z, o, c, n, m, EXPONENTIAL: tl.constexpr):
    """Of the four gates before they were squashed, and of c, n and m before the step."""
    forget, _, kept, written = _stabilised(i, f, m, EXPONENTIAL)
    c_next, n_next = kept * c + written * z, kept * n + written
    read = c_next / n_next
    dc += dh * o / n_next
    dn -= dh * o * read / n_next
    to_kept, to_written = (dc * c + dn * n) * kept, (dc * z + dn) * written
    dm -= to_kept + to_written
    share = tl.where(forget > i, 1.0, tl.where(forget < i, 0.0, 0.5))  # of two that are equal, each has half
    df, di = to_kept + share * dm, to_written + (1.0 - share) * dm
    before = df if EXPONENTIAL else df * sigmoid(-f)
    return di, before, dc * written * (1.0 - z * z), dh * read * o * (1.0 - o), dc * kept, dn * kept, df
