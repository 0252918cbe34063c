"""What steps of a chunk see of each other, for `matrix`: device functions over tiles.

Matrices are [s, t], written at s and read at t: (C, C), or (C, C, K) where each key decays by itself (VECTOR). Decays
are products as they stand, so that those of 0 and near 1 keep their digits. What is said of a step is (C, W).
"""

# pyright: reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false, reportOperatorIssue=false
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _both(x, y):
    return x * y


@triton.jit
def finite(x):
    return tl.where(x - x == 0.0, x, 0.0)


@triton.jit
def times(x, y, DOT: tl.constexpr):
    """x (C, m) times y (m, n), turned, as warps share the rows of a product, and there are few steps."""
    return tl.trans(tl.dot(tl.trans(y), tl.trans(x), input_precision=DOT))


@triton.jit
def rows(x, at, j, size, there, idle, ACC: tl.constexpr):
    """(C, n) finite numbers of rows that lie at `at`, `idle` where there are none."""
    return finite(tl.load(x + at[:, None] * size + j[None], there[:, None] & (j < size)[None], idle).to(ACC))


@triton.jit
def bad(x, at, j, size, there, ACC: tl.constexpr):
    """(C,) whether a row has what is not finite."""
    found = tl.load(x + at[:, None] * size + j[None], there[:, None] & (j < size)[None], 0.0).to(ACC)
    return tl.max(tl.where(found - found == 0.0, 0, 1), 1)


@triton.jit
def last_row(x, c, C: tl.constexpr):
    return tl.sum(tl.where((c == C - 1)[:, None], x, 0.0), 0)


@triton.jit
def _between(step, through, seen, VECTOR: tl.constexpr):
    """Products of the steps from each s on that are gone through, where s is seen from t."""
    if VECTOR:
        found = tl.associative_scan(tl.where(through[:, :, None], step[:, None, :], 1.0), 0, _both, reverse=True)
        found = tl.where(seen[:, :, None], found, 0.0)
    else:
        found = tl.associative_scan(tl.where(through, step, 1.0), 0, _both, reverse=True)
        found = tl.where(seen, found, 0.0)
    return found


@triton.jit
def decays(w, reset, at, H, W, at_reset, c, begin, steps, j, C: tl.constexpr, VECTOR: tl.constexpr,
           RESETS: tl.constexpr, ACC: tl.constexpr):  # fmt: skip
    """Of a chunk, from `begin` on:

    before, after       from a write to what is read before a step, and after it
    since_before, since from the chunk's beginning, likewise; 0 behind a reset
    again_before, again from the state that the last reset in this chunk restored, likewise
    until               from after a step to the chunk's end
    last                the step before each
    """
    t = begin + c
    now = rows(w, at, j, W, t < steps, 1.0, ACC)
    last = rows(w, at - H, j, W, (t < steps) & (c > 0), 1.0, ACC)
    following = rows(w, at + H, j, W, (t + 1 < steps) & (c < C - 1), 1.0, ACC)
    cut = tl.zeros((C,), tl.int32)
    restores = tl.zeros_like(now)
    if RESETS:
        cut += tl.load(reset + at_reset, t < steps, 0).to(tl.int32)
        cut_last = tl.load(reset + at_reset - 1, (t < steps) & (c > 0), 0).to(tl.int32)
        cut_following = tl.load(reset + at_reset + 1, (t + 1 < steps) & (c < C - 1), 0).to(tl.int32)
        restores = tl.where(cut[:, None] != 0, now, 0.0)
        now = tl.where(cut[:, None] != 0, 0.0, now)
        last = tl.where(cut_last[:, None] != 0, 0.0, last)
        following = tl.where(cut_following[:, None] != 0, 0.0, following)
    s, t = c[:, None], c[None]
    after = _between(following, s < t, s <= t, VECTOR)
    before = _between(following, s + 1 < t, (s < t) & (cut[None] == 0), VECTOR)
    since = tl.associative_scan(now, 0, _both)
    since_before = tl.where(cut[:, None] != 0, 0.0, tl.associative_scan(last, 0, _both))
    again = written(restores, after, VECTOR)
    again_before = tl.where(cut[:, None] != 0, 1.0, written(restores, before, VECTOR))
    until = read(tl.where((c == C - 1)[:, None], 1.0, tl.zeros_like(now)), after, VECTOR)
    return cut, before, after, since_before, since, again_before, again, until, last


@triton.jit
def written(x, decay, VECTOR: tl.constexpr):
    """What each t has of all x[s]."""
    return tl.sum(x[:, None, :] * decay, 0) if VECTOR else tl.sum(x * decay, 0)[:, None]


@triton.jit
def read(x, decay, VECTOR: tl.constexpr):
    """What each s has of all x[t]."""
    return tl.sum(x[None] * decay, 1) if VECTOR else tl.sum(tl.trans(x) * decay, 1)[:, None]


@triton.jit
def scores(writes, reads, decay, VECTOR: tl.constexpr, DOT: tl.constexpr):
    """Products of keys, over all of them."""
    if VECTOR:
        found = tl.sum(writes[:, None, :] * reads[None] * decay, 2)
    else:
        found = tl.dot(writes, tl.trans(reads), input_precision=DOT) * decay
    return found


@triton.jit
def to_reads(m, writes, decay, VECTOR: tl.constexpr, DOT: tl.constexpr):
    """(C, K): over s, m[s, t] times what is written there."""
    return tl.sum(m[:, :, None] * writes[:, None, :] * decay, 0) if VECTOR else times(tl.trans(m * decay), writes, DOT)


@triton.jit
def to_writes(m, reads, decay, VECTOR: tl.constexpr, DOT: tl.constexpr):
    """(C, K): over t, m[s, t] times what is read there."""
    return tl.sum(m[:, :, None] * reads[None] * decay, 1) if VECTOR else times(m * decay, reads, DOT)


@triton.jit
def each(x, VECTOR: tl.constexpr):
    """(C, K) as what is said of a step: itself, or summed over keys."""
    if not VECTOR:
        x = tl.sum(x, 1)[:, None]
    return x


@triton.jit
def _linear(a1, b1, a2, b2):
    return a1 * a2, a2 * b1 + b2


@triton.jit
def pairs(m, writes, reads, c, VECTOR: tl.constexpr, DOT: tl.constexpr):
    """m[s, t] times what is written at s and, but for the decay, read at t; for `past_step`."""
    if VECTOR:
        # Written at r - 1, as the sum over s < r is a recurrence over r.
        m = tl.sum(tl.where(c[:, None, None] == c[None, None, :] + 1, tl.trans(m)[None], 0.0), 2)
        writes = tl.sum(tl.where((c[:, None] == c[None] + 1)[:, :, None], writes[None], 0.0), 1)
        found = m[:, :, None] * writes[:, None, :]
    else:
        found = m * tl.dot(writes, tl.trans(reads), input_precision=DOT)
    return found


@triton.jit
def past_step(paired, reads, before, decay, last, cut, VECTOR: tl.constexpr, DOT: tl.constexpr):
    """(C, W): over all s < r, t, the `pairs` with the decays before and after r, without that of r itself.

    Args:
        decay: from after r to what is read at t.
        last, cut: see `decays`.
    """
    if VECTOR:
        _, found = tl.associative_scan((last[:, None, :] + tl.zeros_like(paired), paired), 0, _linear)
        found = tl.where((cut == 0)[:, None, None], found, 0.0)
        found = tl.sum(found * decay * reads[None], 1)
    else:
        found = tl.sum(tl.dot(tl.trans(before), paired, input_precision=DOT) * decay, 1)[:, None]
    return found
