"""y[t] = S[t]' q[t] of S[t] = w[t] S[t-1] + a[t] (b[t]' S[t-1]) + k[t] v[t]', step by step with S in registers.

A program has some values of one head of one row. The gradient's pass begins each tile of steps from the state that was
kept before it, and writes down those within it; what values share (all but v) gets a gradient from each program, which
are summed afterwards.

H heads in G groups, K keys, V values, W = K or 1 decays
"""

# pyright: reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false, reportOperatorIssue=false
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _vector(x, at, j, size, ACC: tl.constexpr):
    return tl.load(x + at * size + j, j < size, 0.0).to(ACC)


@triton.jit
def _stepped(S, k, v, w, a, b, ERASE: tl.constexpr):
    after = w[:, None] * S + k[:, None] * v[None]
    if ERASE:
        after += a[:, None] * tl.sum(b[:, None] * S, 0)[None]
    return after


@triton.jit
def _decays(w, at, j, K, W, ACC: tl.constexpr):
    """(BK,), of each row of S."""
    return tl.load(w + at * W + (j if W > 1 else 0 * j), j < K, 0.0).to(ACC)


@triton.jit
def forward(
    q, k, v, w, a, b, h0, hr, lengths, reset, y, h, kept, T, H, G, K, V, W: tl.constexpr,
    RAGGED: tl.constexpr, RESETS: tl.constexpr, ERASE: tl.constexpr, TRAINING: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    row_head, j, i = tl.program_id(0).to(tl.int64), tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    row, head = row_head // H, row_head % H
    group = head // (H // G)
    steps, tiles = T, (T + BT - 1) // BT
    if RAGGED:
        steps = tl.load(lengths + row).to(tl.int32)
    plane, of_plane = (j < K)[:, None] & (i < V)[None], j[:, None] * V + i[None]
    S = tl.load(h0 + row_head * K * V + of_plane, plane, 0.0).to(ACC)
    restored = tl.load(hr + row_head * K * V + of_plane, plane, 0.0).to(ACC)
    for t in range(0, steps):
        if TRAINING:
            tl.store(kept + (row_head * tiles + t // BT) * K * V + of_plane, S, plane & (t % BT == 0))
        if RESETS:
            S = tl.where(tl.load(reset + row * T + t).to(tl.int32) != 0, restored, S)
        of_group, of_head = (row * T + t) * G + group, (row * T + t) * H + head
        a_, b_ = _vector(k, of_group, j, K, ACC), _vector(k, of_group, j, K, ACC)
        if ERASE:
            a_, b_ = _vector(a, of_group, j, K, ACC), _vector(b, of_group, j, K, ACC)
        k_, v_, w_ = _vector(k, of_group, j, K, ACC), _vector(v, of_head, i, V, ACC), _decays(w, of_head, j, K, W, ACC)
        S = _stepped(S, k_, v_, w_, a_, b_, ERASE)
        read = tl.sum(_vector(q, of_group, j, K, ACC)[:, None] * S, 0)
        tl.store(y + of_head * V + i, read.to(y.dtype.element_ty), i < V)
    tl.store(h + row_head * K * V + of_plane, S.to(h.dtype.element_ty), plane)


@triton.jit
def backward(
    q, k, v, w, a, b, h0, hr, lengths, reset, kept, within, dy, dh, dq, dk, dv, dw, da, db, dh0, dhr,
    T, H, G, K, V, W: tl.constexpr,
    RAGGED: tl.constexpr, RESETS: tl.constexpr, ERASE: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """g is the gradient of the state after a step."""
    row_head, j, i = tl.program_id(0).to(tl.int64), tl.arange(0, BK), tl.program_id(1) * BV + tl.arange(0, BV)
    row, head = row_head // H, row_head % H
    group = head // (H // G)
    steps, tiles = T, (T + BT - 1) // BT
    if RAGGED:
        steps = tl.load(lengths + row).to(tl.int32)
    plane, of_plane = (j < K)[:, None] & (i < V)[None], j[:, None] * V + i[None]
    restored = tl.load(hr + row_head * K * V + of_plane, plane, 0.0).to(ACC)
    g = tl.load(dh + row_head * K * V + of_plane, plane, 0.0).to(ACC)
    to_restored = tl.zeros((BK, BV), ACC)
    own = (steps + BT - 1) // BT
    for back in range(0, own):
        tile = own - 1 - back
        begin, end = tile * BT, min(tile * BT + BT, steps)
        S = tl.load(kept + (row_head * tiles + tile) * K * V + of_plane, plane, 0.0).to(ACC)
        for t in range(begin, end):
            if RESETS:
                S = tl.where(tl.load(reset + row * T + t).to(tl.int32) != 0, restored, S)
            tl.store(within + (row_head * BT + t - begin) * K * V + of_plane, S, plane)
            of_group, of_head = (row * T + t) * G + group, (row * T + t) * H + head
            a_, b_ = _vector(k, of_group, j, K, ACC), _vector(k, of_group, j, K, ACC)
            if ERASE:
                a_, b_ = _vector(a, of_group, j, K, ACC), _vector(b, of_group, j, K, ACC)
            k_, v_ = _vector(k, of_group, j, K, ACC), _vector(v, of_head, i, V, ACC)
            w_ = _decays(w, of_head, j, K, W, ACC)
            S = _stepped(S, k_, v_, w_, a_, b_, ERASE)
        tl.debug_barrier()  # other threads may read what these wrote
        for later in range(0, end - begin):
            t = end - 1 - later
            of_group, of_head = (row * T + t) * G + group, (row * T + t) * H + head
            part = tl.program_id(1).to(tl.int64) * tl.num_programs(0) * T + of_head
            k_, v_ = _vector(k, of_group, j, K, ACC), _vector(v, of_head, i, V, ACC)
            w_ = _decays(w, of_head, j, K, W, ACC)
            a_, b_ = k_, k_
            if ERASE:
                a_, b_ = _vector(a, of_group, j, K, ACC), _vector(b, of_group, j, K, ACC)
            S = tl.load(within + (row_head * BT + t - begin) * K * V + of_plane, plane, 0.0).to(ACC)
            dy_ = _vector(dy, of_head, i, V, ACC)
            after = _stepped(S, k_, v_, w_, a_, b_, ERASE)
            tl.store(dq + part * K + j, tl.sum(after * dy_[None], 1).to(dq.dtype.element_ty), j < K)
            g += _vector(q, of_group, j, K, ACC)[:, None] * dy_[None]
            tl.store(dk + part * K + j, tl.sum(g * v_[None], 1).to(dk.dtype.element_ty), j < K)
            tl.store(dv + of_head * V + i, tl.sum(g * k_[:, None], 0).to(dv.dtype.element_ty), i < V)
            through = tl.sum(g * S, 1)
            if W > 1:
                tl.store(dw + part * W + j, through.to(dw.dtype.element_ty), j < K)
            else:
                tl.store(dw + part, tl.sum(through, 0).to(dw.dtype.element_ty))
            before = w_[:, None] * g
            if ERASE:
                erased, of_erased = tl.sum(b_[:, None] * S, 0), tl.sum(a_[:, None] * g, 0)
                tl.store(da + part * K + j, tl.sum(g * erased[None], 1).to(da.dtype.element_ty), j < K)
                tl.store(db + part * K + j, tl.sum(S * of_erased[None], 1).to(db.dtype.element_ty), j < K)
                before += b_[:, None] * of_erased[None]
            g = before
            if RESETS:
                cut = tl.load(reset + row * T + t).to(tl.int32) != 0
                to_restored += tl.where(cut, g, 0.0)
                g = tl.where(cut, 0.0, g)
        tl.debug_barrier()  # before the next tile is written there
    tl.store(dh0 + row_head * K * V + of_plane, g.to(dh0.dtype.element_ty), plane)
    tl.store(dhr + row_head * K * V + of_plane, to_restored.to(dhr.dtype.element_ty), plane)
