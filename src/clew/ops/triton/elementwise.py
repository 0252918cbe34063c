"""h[t] = a[t] h[t-1] + b[t], elementwise: real, complex, or over (max, +). One launch forward and one for the gradient.

A program has some columns of one row, and goes over time a tile at a time. The steps of a tile are joined in pairs, and
what stood before the tile comes in at the end; loads lie side by side, and the state stays in registers. A reset is a
flag beside each step, at which joining takes nothing from the left: a NaN before it does not pass.

Padded steps stand still (times 1, plus 0), so that the last of a tile is the last real one.
"""

# pyright: reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _join_real(a1, b1, f1, a2, b2, f2):
    return a1 * a2, tl.where(f2 != 0, b2, a2 * b1 + b2), f1 | f2


@triton.jit
def _join_complex(ar1, ai1, br1, bi1, f1, ar2, ai2, br2, bi2, f2):
    cut = f2 != 0
    return (
        ar1 * ar2 - ai1 * ai2,
        ar1 * ai2 + ai1 * ar2,
        tl.where(cut, br2, ar2 * br1 - ai2 * bi1 + br2),
        tl.where(cut, bi2, ar2 * bi1 + ai2 * br1 + bi2),
        f1 | f2,
    )


@triton.jit
def _join_maximum(a1, b1, f1, a2, b2, f2):
    kept = a2 + b1
    return a1 + a2, tl.where((f2 != 0) | ~(kept >= b2), b2, kept), f1 | f2


@triton.jit
def _row(x, t, at, BT: tl.constexpr):
    """The step at which t is `at`, of a tile (BT, BN)."""
    return tl.sum(tl.where((t == at)[:, None], x, 0.0), 0)


@triton.jit
def forward(
    a, b, h0, hr, lengths, reset, y, h, T, N, a_b, a_t,
    MAXIMUM: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr,
    BT: tl.constexpr, BN: tl.constexpr, ACC: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    row, n = tl.program_id(0).to(tl.int64), tl.program_id(1) * BN + tl.arange(0, BN)
    there = n < N
    steps = T
    if RAGGED:
        steps = tl.load(lengths + row).to(tl.int32)
    carry = tl.load(h0 + row * N + n, there, 0.0).to(ACC)
    restored = tl.load(hr + row * N + n, there, 0.0).to(ACC)
    for begin in tl.range(0, steps, BT, num_stages=STAGES):
        t = begin + tl.arange(0, BT)
        real = (t < steps)[:, None] & there[None]
        at = (row * T + t)[:, None] * N + n[None]
        a_ = tl.load(a + row * a_b + t.to(tl.int64)[:, None] * a_t + n[None], real, 0.0 if MAXIMUM else 1.0).to(ACC)
        b_ = tl.load(b + at, real, -float("inf") if MAXIMUM else 0.0).to(ACC)
        flag = tl.zeros((BT, BN), tl.int32)
        if RESETS:
            cut = tl.load(reset + row * T + t, t < steps, 0).to(tl.int32)
            flag += cut[:, None]
            if MAXIMUM:
                kept = restored[None] + a_
                b_ = tl.where((flag != 0) & (kept >= b_), kept, b_)
            else:
                b_ = tl.where(flag != 0, a_ * restored[None] + b_, b_)
        if MAXIMUM:
            product, sums, cuts = tl.associative_scan((a_, b_, flag), 0, _join_maximum)
            kept = carry[None] + product
            state = tl.where((cuts != 0) | ~(kept >= sums), sums, kept)
        else:
            product, sums, cuts = tl.associative_scan((a_, b_, flag), 0, _join_real)
            state = tl.where(cuts != 0, sums, product * carry[None] + sums)
        tl.store(y + at, state.to(y.dtype.element_ty), real)
        carry = _row(state, t, begin + BT - 1, BT)
    tl.store(h + row * N + n, carry.to(h.dtype.element_ty), there)


@triton.jit
def backward(
    a, b, h0, hr, lengths, reset, y, dy, dh, da, db, dh0, dhr, T, N, a_b, a_t,
    MAXIMUM: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr,
    BT: tl.constexpr, BN: tl.constexpr, ACC: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """g[t] = dy[t] + k[t+1] g[t+1], k what the step kept of the state: `a`, or whether it was the larger one."""
    row, n = tl.program_id(0).to(tl.int64), tl.program_id(1) * BN + tl.arange(0, BN)
    there = n < N
    steps = T
    if RAGGED:
        steps = tl.load(lengths + row).to(tl.int32)
    first = tl.load(h0 + row * N + n, there, 0.0).to(ACC)
    restored = tl.load(hr + row * N + n, there, 0.0).to(ACC)
    carry = tl.load(dh + row * N + n, there, 0.0).to(ACC)
    to_first, to_restored = tl.where(steps == 0, carry, 0.0), tl.zeros((BN,), ACC)
    tiles = (steps + BT - 1) // BT
    for back in tl.range(0, tiles, num_stages=STAGES):
        begin = (tiles - 1 - back) * BT
        t = begin + tl.arange(0, BT)
        real, follows = (t < steps)[:, None] & there[None], (t + 1 < steps)[:, None] & there[None]
        at = (row * T + t)[:, None] * N + n[None]
        of_a = a + row * a_b + t.to(tl.int64)[:, None] * a_t + n[None]
        a_ = tl.load(of_a, real, 0.0).to(ACC)
        before = tl.load(y + at - N, real & (t > 0)[:, None], 0.0).to(ACC)
        before = tl.where((t == 0)[:, None], first[None], before)
        kept = tl.load(of_a + a_t, follows, 1.0).to(ACC)  # by the step that follows
        after = tl.zeros((BT, BN), tl.int32)
        if RESETS:
            cut = tl.load(reset + row * T + t, t < steps, 0).to(tl.int32)[:, None] + tl.zeros((BT, BN), tl.int32)
            after += tl.load(reset + row * T + t + 1, t + 1 < steps, 0).to(tl.int32)[:, None]
            before = tl.where(cut != 0, restored[None], before)
        if MAXIMUM:
            b_, next_b = tl.load(b + at, real, 0.0).to(ACC), tl.load(b + at + N, follows, 0.0).to(ACC)
            state = tl.load(y + at, real, 0.0).to(ACC)
            kept = tl.where(~follows | (state + kept >= next_b), 1.0, 0.0).to(ACC)
            own = tl.where(before + a_ >= b_, 1.0, 0.0).to(ACC)
        else:
            own = a_
        g = tl.load(dy + at, real, 0.0).to(ACC)
        product, sums, cuts = tl.associative_scan((kept, g, after), 0, _join_real, reverse=True)
        g = tl.where(cuts != 0, sums, product * carry[None] + sums)
        if MAXIMUM:
            tl.store(da + at, (own * g).to(da.dtype.element_ty), real)
            tl.store(db + at, ((1.0 - own) * g).to(db.dtype.element_ty), real)
        else:
            tl.store(da + at, (before * g).to(da.dtype.element_ty), real)
            tl.store(db + at, g.to(db.dtype.element_ty), real)
        began = (t == 0)[:, None] & real
        if RESETS:
            to_restored += tl.sum(tl.where((cut != 0) & real, own * g, 0.0), 0)
            began = began & (cut == 0)
        to_first += tl.sum(tl.where(began, own * g, 0.0), 0)
        carry = _row(g, t, begin, BT)
    tl.store(dh0 + row * N + n, to_first.to(dh0.dtype.element_ty), there)
    tl.store(dhr + row * N + n, to_restored.to(dhr.dtype.element_ty), there)


@triton.jit
def forward_complex(
    a, b, h0, hr, lengths, reset, y, h, T, N, a_b, a_t,
    MAXIMUM: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr,
    BT: tl.constexpr, BN: tl.constexpr, ACC: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """A complex number is a pair; N counts pairs."""
    row, n = tl.program_id(0).to(tl.int64), tl.program_id(1) * BN + tl.arange(0, BN)
    there, of_n = n < N, 2 * n
    steps = T
    if RAGGED:
        steps = tl.load(lengths + row).to(tl.int32)
    whole = row * 2 * N + of_n
    carry_r, carry_i = tl.load(h0 + whole, there, 0.0).to(ACC), tl.load(h0 + whole + 1, there, 0.0).to(ACC)
    first_r, first_i = tl.load(hr + whole, there, 0.0).to(ACC), tl.load(hr + whole + 1, there, 0.0).to(ACC)
    for begin in tl.range(0, steps, BT, num_stages=STAGES):
        t = begin + tl.arange(0, BT)
        real = (t < steps)[:, None] & there[None]
        at = (row * T + t)[:, None] * 2 * N + of_n[None]
        of_a = a + row * a_b + t.to(tl.int64)[:, None] * a_t + of_n[None]
        ar, ai = tl.load(of_a, real, 1.0).to(ACC), tl.load(of_a + 1, real, 0.0).to(ACC)
        br, bi = tl.load(b + at, real, 0.0).to(ACC), tl.load(b + at + 1, real, 0.0).to(ACC)
        flag = tl.zeros((BT, BN), tl.int32)
        if RESETS:
            flag += tl.load(reset + row * T + t, t < steps, 0).to(tl.int32)[:, None]
            br = tl.where(flag != 0, ar * first_r[None] - ai * first_i[None] + br, br)
            bi = tl.where(flag != 0, ar * first_i[None] + ai * first_r[None] + bi, bi)
        pr, pi, sr, si, cuts = tl.associative_scan((ar, ai, br, bi, flag), 0, _join_complex)
        state_r = tl.where(cuts != 0, sr, pr * carry_r[None] - pi * carry_i[None] + sr)
        state_i = tl.where(cuts != 0, si, pr * carry_i[None] + pi * carry_r[None] + si)
        tl.store(y + at, state_r.to(y.dtype.element_ty), real)
        tl.store(y + at + 1, state_i.to(y.dtype.element_ty), real)
        carry_r, carry_i = _row(state_r, t, begin + BT - 1, BT), _row(state_i, t, begin + BT - 1, BT)
    tl.store(h + whole, carry_r.to(h.dtype.element_ty), there)
    tl.store(h + whole + 1, carry_i.to(h.dtype.element_ty), there)


@triton.jit
def backward_complex(
    a, b, h0, hr, lengths, reset, y, dy, dh, da, db, dh0, dhr, T, N, a_b, a_t,
    MAXIMUM: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr,
    BT: tl.constexpr, BN: tl.constexpr, ACC: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """g[t] = dy[t] + conj(a[t+1]) g[t+1]."""
    row, n = tl.program_id(0).to(tl.int64), tl.program_id(1) * BN + tl.arange(0, BN)
    there, of_n = n < N, 2 * n
    steps = T
    if RAGGED:
        steps = tl.load(lengths + row).to(tl.int32)
    whole = row * 2 * N + of_n
    first_r, first_i = tl.load(h0 + whole, there, 0.0).to(ACC), tl.load(h0 + whole + 1, there, 0.0).to(ACC)
    restored_r, restored_i = tl.load(hr + whole, there, 0.0).to(ACC), tl.load(hr + whole + 1, there, 0.0).to(ACC)
    carry_r, carry_i = tl.load(dh + whole, there, 0.0).to(ACC), tl.load(dh + whole + 1, there, 0.0).to(ACC)
    to_first_r, to_first_i = tl.where(steps == 0, carry_r, 0.0), tl.where(steps == 0, carry_i, 0.0)
    to_restored_r, to_restored_i = tl.zeros((BN,), ACC), tl.zeros((BN,), ACC)
    tiles = (steps + BT - 1) // BT
    for back in tl.range(0, tiles, num_stages=STAGES):
        begin = (tiles - 1 - back) * BT
        t = begin + tl.arange(0, BT)
        real, follows = (t < steps)[:, None] & there[None], (t + 1 < steps)[:, None] & there[None]
        at = (row * T + t)[:, None] * 2 * N + of_n[None]
        of_a = a + row * a_b + t.to(tl.int64)[:, None] * a_t + of_n[None]
        ar, ai = tl.load(of_a, real, 0.0).to(ACC), tl.load(of_a + 1, real, 0.0).to(ACC)
        earlier = real & (t > 0)[:, None]
        last = y + at - 2 * N
        before_r, before_i = tl.load(last, earlier, 0.0).to(ACC), tl.load(last + 1, earlier, 0.0).to(ACC)
        before_r = tl.where((t == 0)[:, None], first_r[None], before_r)
        before_i = tl.where((t == 0)[:, None], first_i[None], before_i)
        kept_r, kept_i = tl.load(of_a + a_t, follows, 1.0).to(ACC), -tl.load(of_a + a_t + 1, follows, 0.0).to(ACC)
        after = tl.zeros((BT, BN), tl.int32)
        if RESETS:
            cut = tl.load(reset + row * T + t, t < steps, 0).to(tl.int32)[:, None] + tl.zeros((BT, BN), tl.int32)
            after += tl.load(reset + row * T + t + 1, t + 1 < steps, 0).to(tl.int32)[:, None]
            before_r = tl.where(cut != 0, restored_r[None], before_r)
            before_i = tl.where(cut != 0, restored_i[None], before_i)
        gr, gi = tl.load(dy + at, real, 0.0).to(ACC), tl.load(dy + at + 1, real, 0.0).to(ACC)
        pr, pi, sr, si, cuts = tl.associative_scan((kept_r, kept_i, gr, gi, after), 0, _join_complex, reverse=True)
        gr = tl.where(cuts != 0, sr, pr * carry_r[None] - pi * carry_i[None] + sr)
        gi = tl.where(cuts != 0, si, pr * carry_i[None] + pi * carry_r[None] + si)
        tl.store(da + at, (before_r * gr + before_i * gi).to(da.dtype.element_ty), real)
        tl.store(da + at + 1, (before_r * gi - before_i * gr).to(da.dtype.element_ty), real)
        tl.store(db + at, gr.to(db.dtype.element_ty), real)
        tl.store(db + at + 1, gi.to(db.dtype.element_ty), real)
        back_r, back_i = ar * gr + ai * gi, ar * gi - ai * gr  # to the state before
        began = (t == 0)[:, None] & real
        if RESETS:
            to_restored_r += tl.sum(tl.where((cut != 0) & real, back_r, 0.0), 0)
            to_restored_i += tl.sum(tl.where((cut != 0) & real, back_i, 0.0), 0)
            began = began & (cut == 0)
        to_first_r += tl.sum(tl.where(began, back_r, 0.0), 0)
        to_first_i += tl.sum(tl.where(began, back_i, 0.0), 0)
        carry_r, carry_i = _row(gr, t, begin, BT), _row(gi, t, begin, BT)
    tl.store(dh0 + whole, to_first_r.to(dh0.dtype.element_ty), there)
    tl.store(dh0 + whole + 1, to_first_i.to(dh0.dtype.element_ty), there)
    tl.store(dhr + whole, to_restored_r.to(dhr.dtype.element_ty), there)
    tl.store(dhr + whole + 1, to_restored_i.to(dhr.dtype.element_ty), there)
