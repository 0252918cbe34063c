"""y[t] = C[t] h[t] of h[t] = exp(dt[t] A) h[t-1] + dt[t] x[t] B[t]: the states of a tile of steps are there at once, in
registers, and nothing of their size is written but the state before each tile, which the gradient's pass begins from.

A program has some channels of one row. What all channels share (B, C) and all rows (A) gets a gradient from each
program, which are summed afterwards: no sum depends on who comes first.

T steps, D channels, N numbers of state a channel; tiles are (BT, BD, BN)
"""

# pyright: reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false, reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

from clew.ops.triton.elementwise import _join_real


@triton.jit
def _plane(x, t, at):
    """The step at which t is `at`, of a tile (BT, BD, BN)."""
    return tl.sum(tl.where((t == at)[:, None, None], x, 0.0), 0)


@triton.jit
def forward(
    x, dt, A, B, C, h0, hr, lengths, reset, y, h, kept, T, D, N,
    RAGGED: tl.constexpr, RESETS: tl.constexpr, TRAINING: tl.constexpr,
    BT: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr, ACC: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    row, d, n = tl.program_id(0).to(tl.int64), tl.program_id(1) * BD + tl.arange(0, BD), tl.arange(0, BN)
    steps, tiles = T, (T + BT - 1) // BT
    if RAGGED:
        steps = tl.load(lengths + row).to(tl.int32)
    plane = (d < D)[:, None] & (n < N)[None]
    of_plane = d[:, None] * N + n[None]
    A_ = tl.load(A + of_plane, plane, 0.0).to(ACC)
    carry = tl.load(h0 + row * D * N + of_plane, plane, 0.0).to(ACC)
    restored = tl.load(hr + row * D * N + of_plane, plane, 0.0).to(ACC)
    for begin in tl.range(0, steps, BT, num_stages=STAGES):
        if TRAINING:
            tl.store(kept + (row * tiles + begin // BT) * D * N + of_plane, carry, plane)
        t = begin + tl.arange(0, BT)
        of_d, of_n = (row * T + t)[:, None] * D + d[None], (row * T + t)[:, None] * N + n[None]
        real_d, real_n = (t < steps)[:, None] & (d < D)[None], (t < steps)[:, None] & (n < N)[None]
        dt_ = tl.load(dt + of_d, real_d, 0.0).to(ACC)  # a padded step keeps all and adds nothing
        x_ = tl.load(x + of_d, real_d, 0.0).to(ACC)
        B_, C_ = tl.load(B + of_n, real_n, 0.0).to(ACC), tl.load(C + of_n, real_n, 0.0).to(ACC)
        a = tl.exp(dt_[:, :, None] * A_[None])
        b = (dt_ * x_)[:, :, None] * B_[:, None, :]
        flag = tl.zeros((BT, BD, BN), tl.int32)
        if RESETS:
            flag += tl.load(reset + row * T + t, t < steps, 0).to(tl.int32)[:, None, None]
            b = tl.where(flag != 0, a * restored[None] + b, b)
        product, sums, cuts = tl.associative_scan((a, b, flag), 0, _join_real)
        state = tl.where(cuts != 0, sums, product * carry[None] + sums)
        tl.store(y + of_d, tl.sum(state * C_[:, None, :], 2).to(y.dtype.element_ty), real_d)
        carry = _plane(state, t, begin + BT - 1)
    tl.store(h + row * D * N + of_plane, carry.to(h.dtype.element_ty), plane)


@triton.jit
def backward(
    x, dt, A, B, C, h0, hr, lengths, reset, kept, dy, dh, dx, ddt, dA, dB, dC, dh0, dhr, T, D, N,
    RAGGED: tl.constexpr, RESETS: tl.constexpr,
    BT: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr, ACC: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """g[t] = dy[t] C[t] + a[t+1] g[t+1]; the state before each step is that of the steps up to the one before it."""
    row, d, n = tl.program_id(0).to(tl.int64), tl.program_id(1) * BD + tl.arange(0, BD), tl.arange(0, BN)
    rows = tl.num_programs(0).to(tl.int64)
    steps, tiles = T, (T + BT - 1) // BT
    if RAGGED:
        steps = tl.load(lengths + row).to(tl.int32)
    plane = (d < D)[:, None] & (n < N)[None]
    of_plane = d[:, None] * N + n[None]
    A_ = tl.load(A + of_plane, plane, 0.0).to(ACC)
    restored = tl.load(hr + row * D * N + of_plane, plane, 0.0).to(ACC)
    carry = tl.load(dh + row * D * N + of_plane, plane, 0.0).to(ACC)
    to_A, to_restored = tl.zeros((BD, BN), ACC), tl.zeros((BD, BN), ACC)
    to_first = tl.where(steps == 0, carry, 0.0)
    own = (steps + BT - 1) // BT
    for back in tl.range(0, own, num_stages=STAGES):
        tile = own - 1 - back
        begin = tile * BT
        t = begin + tl.arange(0, BT)
        of_d, of_n = (row * T + t)[:, None] * D + d[None], (row * T + t)[:, None] * N + n[None]
        real_d, real_n = (t < steps)[:, None] & (d < D)[None], (t < steps)[:, None] & (n < N)[None]
        dt_, x_ = tl.load(dt + of_d, real_d, 0.0).to(ACC), tl.load(x + of_d, real_d, 0.0).to(ACC)
        B_, C_ = tl.load(B + of_n, real_n, 0.0).to(ACC), tl.load(C + of_n, real_n, 0.0).to(ACC)
        a = tl.exp(dt_[:, :, None] * A_[None])

        # The state before each step: of the tile's steps but the last, behind the state that was kept.
        earlier = (t > begin)[:, None]
        dt_1 = tl.load(dt + of_d - D, real_d & earlier, 0.0).to(ACC)
        x_1 = tl.load(x + of_d - D, real_d & earlier, 0.0).to(ACC)
        B_1 = tl.load(B + of_n - N, real_n & earlier, 0.0).to(ACC)
        a_1, b_1 = tl.exp(dt_1[:, :, None] * A_[None]), (dt_1 * x_1)[:, :, None] * B_1[:, None, :]
        none = tl.zeros((BT, BD, BN), tl.int32)
        cut_1, cut, after = none, none, none
        if RESETS:
            cut_1 = none + tl.load(reset + row * T + t - 1, (t > begin) & (t < steps), 0).to(tl.int32)[:, None, None]
            cut = none + tl.load(reset + row * T + t, t < steps, 0).to(tl.int32)[:, None, None]
            after = none + tl.load(reset + row * T + t + 1, t + 1 < steps, 0).to(tl.int32)[:, None, None]
            b_1 = tl.where(cut_1 != 0, a_1 * restored[None] + b_1, b_1)
        product, sums, cuts = tl.associative_scan((a_1, b_1, cut_1), 0, _join_real)
        start = tl.load(kept + (row * tiles + tile) * D * N + of_plane, plane, 0.0).to(ACC)
        before = tl.where(cuts != 0, sums, product * start[None] + sums)
        before = tl.where(cut != 0, restored[None], before)
        state = a * before + (dt_ * x_)[:, :, None] * B_[:, None, :]

        follows = (t + 1 < steps)[:, None] & (d < D)[None]
        decay = tl.exp(tl.load(dt + of_d + D, follows, 0.0).to(ACC)[:, :, None] * A_[None])
        dy_ = tl.load(dy + of_d, real_d, 0.0).to(ACC)
        said = dy_[:, :, None] * C_[:, None, :]
        product, sums, cuts = tl.associative_scan((decay, said, after), 0, _join_real, reverse=True)
        g = tl.where(cuts != 0, sums, product * carry[None] + sums)

        part = (tl.program_id(1) * rows + row) * T * N + t[:, None] * N + n[None]
        tl.store(dC + part, tl.sum(dy_[:, :, None] * state, 1).to(dC.dtype.element_ty), real_n)
        tl.store(dB + part, tl.sum(g * (dt_ * x_)[:, :, None], 1).to(dB.dtype.element_ty), real_n)
        gB = tl.sum(g * B_[:, None, :], 2)
        through = g * a * before  # what the exponent gets
        tl.store(dx + of_d, (gB * dt_).to(dx.dtype.element_ty), real_d)
        tl.store(ddt + of_d, (gB * x_ + tl.sum(through * A_[None], 2)).to(ddt.dtype.element_ty), real_d)
        real = real_d[:, :, None] & (n < N)[None, None, :]
        to_A += tl.sum(tl.where(real, through * dt_[:, :, None], 0.0), 0)
        began = (t == 0)[:, None, None] & real
        if RESETS:
            to_restored += tl.sum(tl.where((cut != 0) & real, a * g, 0.0), 0)
            began = began & (cut == 0)
        to_first += tl.sum(tl.where(began, a * g, 0.0), 0)
        carry = _plane(g, t, begin)
    tl.store(dA + row * D * N + of_plane, to_A.to(dA.dtype.element_ty), plane)
    tl.store(dh0 + row * D * N + of_plane, to_first.to(dh0.dtype.element_ty), plane)
    tl.store(dhr + row * D * N + of_plane, to_restored.to(dhr.dtype.element_ty), plane)
