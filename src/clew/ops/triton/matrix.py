"""y[t] = S[t]' q[t] of S[t] = w[t] S[t-1] + a[t] (b[t]' S[t-1]) + k[t] v[t]', chunk by chunk with S in registers.

Within a chunk of C steps no state is formed: reads are a triangular matrix of scores times what is written, and what
is erased, u[t] = S[t-1]' b[t], which is a read itself, solves a triangular system (see `ops.chunked_matrix`). One
launch forward and one for the gradient. A program has some values of one head of one row; what values share (all but
v) gets a gradient from each program, which are summed afterwards.

What is not finite is taken out, as products of matrices would carry 0 times NaN to earlier steps and past resets; all
that it would have reached is NaN.

H heads in G groups, K keys, V values, W = K or 1 decays
"""

# pyright: reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false, reportOperatorIssue=false
from __future__ import annotations

import triton
import triton.language as tl

from clew.ops.triton.decay import (
    bad,
    decays,
    each,
    finite,
    last_row,
    pairs,
    past_step,
    read,
    rows,
    scores,
    times,
    to_reads,
    to_writes,
    written,
)


@triton.jit
def _inverse(m, c, C: tl.constexpr):
    """Of 1 - m', where m [s, t] is above the diagonal: row after row."""
    found = tl.where(c[:, None] == c[None], 1.0, tl.zeros_like(m))
    for i in range(1, C):
        row = tl.sum(tl.where(c[None] == i, m, 0.0), 1)
        found += tl.where(c[:, None] == i, tl.sum(row[:, None] * found, 0)[None], 0.0)
    return found


@triton.jit
def _erased(S, hr, k, v, a, b, before, since, again, c, C: tl.constexpr, RESETS: tl.constexpr, VECTOR: tl.constexpr,
            DOT: tl.constexpr):  # fmt: skip
    """u (C, V), and the inverse that it comes from."""
    inverse = _inverse(scores(a, b, before, VECTOR, DOT), c, C)
    known = times(tl.trans(scores(k, b, before, VECTOR, DOT)), v, DOT)
    known += times(b * since, S, DOT)
    if RESETS:
        known += times(b * again, hr, DOT)
    return times(inverse, known, DOT), inverse


@triton.jit
def _left(S, hr, k, v, a, u, since, again, until, c, C: tl.constexpr, RESETS: tl.constexpr, ERASE: tl.constexpr,
          DOT: tl.constexpr):  # fmt: skip
    """The state behind a chunk."""
    S = last_row(since, c, C)[:, None] * S + tl.dot(tl.trans(k * until), v, input_precision=DOT)
    if ERASE:
        S += tl.dot(tl.trans(a * until), u, input_precision=DOT)
    if RESETS:
        S += last_row(again, c, C)[:, None] * hr
    return S


@triton.jit
def forward(
    q, k, v, w, a, b, h0, hr, lengths, reset, y, h, kept, T, H, G, K, V, W: tl.constexpr,
    RAGGED: tl.constexpr, RESETS: tl.constexpr, ERASE: tl.constexpr, TRAINING: tl.constexpr,
    C: tl.constexpr, EVERY: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, DOT: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """`kept` has the state before every so many chunks."""
    VECTOR: tl.constexpr = W > 1
    row_head, j, i, c = tl.program_id(0).to(tl.int64), tl.arange(0, BK), tl.arange(0, BV), tl.arange(0, C)
    i += tl.program_id(1) * BV
    row, head = row_head // H, row_head % H
    group, j_w = head // (H // G), tl.arange(0, BK if VECTOR else 1)
    steps, groups = T, (T + C * EVERY - 1) // (C * EVERY)
    if RAGGED:
        steps = tl.load(lengths + row).to(tl.int32)
    plane, of_plane = (j < K)[:, None] & (i < V)[None], j[:, None] * V + i[None]
    first = tl.load(h0 + row_head * K * V + of_plane, plane, 0.0).to(ACC)
    lost = tl.max(tl.max(tl.where(first - first == 0.0, 0, 1), 1), 0)
    S, restored = finite(first), tl.zeros((BK, BV), ACC)
    lost_again = lost
    if RESETS:
        other = tl.load(hr + row_head * K * V + of_plane, plane, 0.0).to(ACC)
        restored, lost_again = finite(other), tl.max(tl.max(tl.where(other - other == 0.0, 0, 1), 1), 0)
    for begin in range(0, steps, C):
        if TRAINING:
            at = kept + (row_head * groups + begin // (C * EVERY)) * K * V + of_plane
            tl.store(at, S, plane & (begin % (C * EVERY) == 0))
        at_step = row * T + begin + c
        of_group, of_head, real = at_step * G + group, at_step * H + head, begin + c < steps
        cut, before, after, since_before, since, again_before, again, until, _ = decays(
            w, reset, of_head, H, W, at_step, c, begin, steps, j_w, C, VECTOR, RESETS, ACC
        )
        q_, k_ = rows(q, of_group, j, K, real, 0.0, ACC), rows(k, of_group, j, K, real, 0.0, ACC)
        v_ = rows(v, of_head, i, V, real, 0.0, ACC)
        said = times(tl.trans(scores(k_, q_, after, VECTOR, DOT)), v_, DOT)
        said += times(q_ * since, S, DOT)
        if RESETS:
            said += times(q_ * again, restored, DOT)
        here = bad(k, of_group, j, K, real, ACC) | bad(v, of_head, i, V, real, ACC) | bad(w, of_head, j_w, W, real, ACC)
        a_, u = k_, v_
        if ERASE:
            a_, b_ = rows(a, of_group, j, K, real, 0.0, ACC), rows(b, of_group, j, K, real, 0.0, ACC)
            here |= bad(a, of_group, j, K, real, ACC) | bad(b, of_group, j, K, real, ACC)
            u, _ = _erased(S, restored, k_, v_, a_, b_, before, since_before, again_before, c, C, RESETS, VECTOR, DOT)
            said += times(tl.trans(scores(a_, q_, after, VECTOR, DOT)), u, DOT)
        S = _left(S, restored, k_, v_, a_, u, since, again, until, c, C, RESETS, ERASE, DOT)

        piece = tl.cumsum(cut, 0)
        seen = (c[:, None] <= c[None]) & (piece[:, None] == piece[None])
        gone = tl.max(tl.where(seen, here[:, None], 0), 0) | tl.where(piece > 0, lost_again, lost)
        lost = tl.max(tl.where(c == C - 1, gone, 0), 0)
        gone |= bad(q, of_group, j, K, real, ACC)
        said = tl.where((gone != 0)[:, None], float("nan"), said)
        tl.store(y + of_head[:, None] * V + i[None], said.to(y.dtype.element_ty), real[:, None] & (i < V)[None])
    S = tl.where(lost != 0, float("nan"), S)
    tl.store(h + row_head * K * V + of_plane, S.to(h.dtype.element_ty), plane)


@triton.jit
def backward(
    q, k, v, w, a, b, h0, hr, lengths, reset, kept, within, dy, dh, dq, dk, dv, dw, da, db, dh0, dhr,
    T, H, G, K, V, W: tl.constexpr,
    RAGGED: tl.constexpr, RESETS: tl.constexpr, ERASE: tl.constexpr,
    C: tl.constexpr, EVERY: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, DOT: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """`within` is room for the states before the chunks between two that were kept. D is the gradient of a state."""
    VECTOR: tl.constexpr = W > 1
    row_head, j, i, c = tl.program_id(0).to(tl.int64), tl.arange(0, BK), tl.arange(0, BV), tl.arange(0, C)
    i += tl.program_id(1) * BV
    row, head = row_head // H, row_head % H
    group, j_w = head // (H // G), tl.arange(0, BK if VECTOR else 1)
    steps, groups = T, (T + C * EVERY - 1) // (C * EVERY)
    if RAGGED:
        steps = tl.load(lengths + row).to(tl.int32)
    plane, of_plane = (j < K)[:, None] & (i < V)[None], j[:, None] * V + i[None]
    restored, to_restored = tl.zeros((BK, BV), ACC), tl.zeros((BK, BV), ACC)
    if RESETS:
        restored = finite(tl.load(hr + row_head * K * V + of_plane, plane, 0.0).to(ACC))
    D = tl.load(dh + row_head * K * V + of_plane, plane, 0.0).to(ACC)
    chunks = (steps + C - 1) // C
    own = (chunks + EVERY - 1) // EVERY
    for back in range(0, own):
        first = (own - 1 - back) * EVERY
        end = min(first + EVERY, chunks)
        S = tl.load(kept + (row_head * groups + own - 1 - back) * K * V + of_plane, plane, 0.0).to(ACC)
        room = within + row_head * EVERY * K * V + of_plane
        if EVERY > 1:
            tl.store(room, S, plane)
            for chunk in range(first, end - 1):
                at_step, real = row * T + chunk * C + c, chunk * C + c < steps
                of_group, of_head = at_step * G + group, at_step * H + head
                _, before, _, since_before, since, again_before, again, until, _ = decays(
                    w, reset, of_head, H, W, at_step, c, chunk * C, steps, j_w, C, VECTOR, RESETS, ACC
                )
                k_, v_ = rows(k, of_group, j, K, real, 0.0, ACC), rows(v, of_head, i, V, real, 0.0, ACC)
                a_, u = k_, v_
                if ERASE:
                    a_, b_ = rows(a, of_group, j, K, real, 0.0, ACC), rows(b, of_group, j, K, real, 0.0, ACC)
                    u, _ = _erased(
                        S, restored, k_, v_, a_, b_, before, since_before, again_before, c, C, RESETS, VECTOR, DOT
                    )
                S = _left(S, restored, k_, v_, a_, u, since, again, until, c, C, RESETS, ERASE, DOT)
                tl.store(room + (chunk + 1 - first) * K * V, S, plane)
            tl.debug_barrier()  # other threads may read what these wrote
        for later in range(0, end - first):
            chunk = end - 1 - later
            if EVERY > 1:
                S = tl.load(room + (chunk - first) * K * V, plane, 0.0).to(ACC)
            at_step, real = row * T + chunk * C + c, chunk * C + c < steps
            of_group, of_head = at_step * G + group, at_step * H + head
            cut, before, after, since_before, since, again_before, again, until, last = decays(
                w, reset, of_head, H, W, at_step, c, chunk * C, steps, j_w, C, VECTOR, RESETS, ACC
            )
            q_, k_ = rows(q, of_group, j, K, real, 0.0, ACC), rows(k, of_group, j, K, real, 0.0, ACC)
            v_, dy_ = rows(v, of_head, i, V, real, 0.0, ACC), rows(dy, of_head, i, V, real, 0.0, ACC)
            part = (tl.program_id(1).to(tl.int64) * tl.num_programs(0) * T + of_head)[:, None]
            of_keys, keys = part * K + j[None], real[:, None] & (j < K)[None]

            # What each read asks of the state before the chunk, and each write has from the one behind it.
            of_q = times(dy_, tl.trans(S), DOT)
            of_k = times(v_, tl.trans(D), DOT)
            m = tl.dot(v_, tl.trans(dy_), input_precision=DOT)
            to_v = times(scores(k_, q_, after, VECTOR, DOT), dy_, DOT)
            to_v += times(k_ * until, D, DOT)
            to_q = since * of_q + to_reads(m, k_, after, VECTOR, DOT)
            to_k = until * of_k + to_writes(m, q_, after, VECTOR, DOT)
            to_end = each(k_ * of_k, VECTOR)
            paired = pairs(m, k_, q_, c, VECTOR, DOT)
            to_w = since_before * read(each(q_ * of_q, VECTOR), after, VECTOR)
            below = last_row(since, c, C)[:, None] * D + tl.dot(tl.trans(q_ * since), dy_, input_precision=DOT)
            if RESETS:
                of_again = times(dy_, tl.trans(restored), DOT)
                to_q += again * of_again
                to_w += again_before * read(each(q_ * of_again, VECTOR), after, VECTOR)
                to_restored += last_row(again, c, C)[:, None] * D
                to_restored += tl.dot(tl.trans(q_ * again), dy_, input_precision=DOT)
            if ERASE:
                a_, b_ = rows(a, of_group, j, K, real, 0.0, ACC), rows(b, of_group, j, K, real, 0.0, ACC)
                u, inverse = _erased(
                    S, restored, k_, v_, a_, b_, before, since_before, again_before, c, C, RESETS, VECTOR, DOT
                )
                du = times(scores(a_, q_, after, VECTOR, DOT), dy_, DOT)
                du += times(a_ * until, D, DOT)
                dz = times(tl.trans(inverse), du, DOT)
                of_a, of_b = (
                    times(u, tl.trans(D), DOT),
                    times(dz, tl.trans(S), DOT),
                )
                m_aq = tl.dot(u, tl.trans(dy_), input_precision=DOT)
                m_kb = tl.dot(v_, tl.trans(dz), input_precision=DOT)
                m_ab = tl.dot(u, tl.trans(dz), input_precision=DOT)
                to_v += times(scores(k_, b_, before, VECTOR, DOT), dz, DOT)
                to_q += to_reads(m_aq, a_, after, VECTOR, DOT)
                to_k += to_writes(m_kb, b_, before, VECTOR, DOT)
                to_a = until * of_a + to_writes(m_aq, q_, after, VECTOR, DOT)
                to_a += to_writes(m_ab, b_, before, VECTOR, DOT)
                to_b = since_before * of_b + to_reads(m_kb, k_, before, VECTOR, DOT)
                to_b += to_reads(m_ab, a_, before, VECTOR, DOT)
                to_end += each(a_ * of_a, VECTOR)
                to_w += since_before * read(each(b_ * of_b, VECTOR), before, VECTOR)
                paired += pairs(m_aq, a_, q_, c, VECTOR, DOT)
                paired_b = pairs(m_kb, k_, b_, c, VECTOR, DOT) + pairs(m_ab, a_, b_, c, VECTOR, DOT)
                to_w += past_step(paired_b, b_, before, before, last, cut, VECTOR, DOT)
                below += tl.dot(tl.trans(b_ * since_before), dz, input_precision=DOT)
                if RESETS:
                    of_again = times(dz, tl.trans(restored), DOT)
                    to_b += again_before * of_again
                    to_w += again_before * read(each(b_ * of_again, VECTOR), before, VECTOR)
                    to_restored += tl.dot(tl.trans(b_ * again_before), dz, input_precision=DOT)
                tl.store(da + of_keys, to_a.to(da.dtype.element_ty), keys)
                tl.store(db + of_keys, to_b.to(db.dtype.element_ty), keys)
            both = since_before * each(tl.sum(D * S, 1)[None], VECTOR)
            if RESETS:
                both += again_before * each(tl.sum(D * restored, 1)[None], VECTOR)
            to_w += until * (both + written(to_end, before, VECTOR))
            to_w += past_step(paired, q_, before, after, last, cut, VECTOR, DOT)
            tl.store(dw + part * W + j_w[None], to_w.to(dw.dtype.element_ty), real[:, None] & (j_w < W)[None])
            tl.store(dq + of_keys, to_q.to(dq.dtype.element_ty), keys)
            tl.store(dk + of_keys, to_k.to(dk.dtype.element_ty), keys)
            values = real[:, None] & (i < V)[None]
            tl.store(dv + of_head[:, None] * V + i[None], to_v.to(dv.dtype.element_ty), values)
            D = below
        if EVERY > 1:
            tl.debug_barrier()  # before the next states are written there
    tl.store(dh0 + row_head * K * V + of_plane, D.to(dh0.dtype.element_ty), plane)
    tl.store(dhr + row_head * K * V + of_plane, to_restored.to(dhr.dtype.element_ty), plane)
