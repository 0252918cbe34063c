# pyright: reportAssignmentType=false, reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportGeneralTypeIssues=false
"""Elman, GRU, LSTM and sLSTM: one launch for all steps. Each program has some units of one head of some rows, and waits
after each step until the programs of the same rows and head have written theirs; what a step sees of the state goes
through two buffers in turn. Where its weights fit into a program (HELD), they are read once.

Where they are not held, how many programs there are changes no number: with fewer than there are blocks of units, each
goes over several.

B rows, T steps, H hidden units, D of a head, G gates; tiles are (BB, BH), products go over BK at a time
BG rows of a product, those of all gates
"""

from __future__ import annotations

import triton
import triton.language as tl

from clew.ops.triton.gates import gru, gru_gradient, lstm, lstm_gradient, slstm, slstm_gradient, tanh


@triton.jit
def wait(counter, target):
    """Until so many programs have come here: what they wrote before is there to be read."""
    tl.debug_barrier()
    if tl.num_programs(1) > 1:
        tl.atomic_add(counter, 1, sem="acq_rel")
        while tl.atomic_add(counter, 0, sem="acquire") < target:
            pass
        tl.debug_barrier()


@triton.jit
def _weights(hh, begin, k, D, G: tl.constexpr, BH: tl.constexpr, BG: tl.constexpr):
    """(BG, BK) of a head's weights (G D, D): of all gates of the units from `begin` on, gate by gate."""
    r = tl.arange(0, BG)
    gate, unit = r // BH, begin + r % BH
    there = (unit < D) & (gate < G)
    return tl.load(hh + (gate * D + unit)[:, None] * D + k[None], there[:, None] & (k < D)[None], 0.0)


@triton.jit
def _gates(x, at, hh, begin, here, D, w, G: tl.constexpr, HELD: tl.constexpr, DOT: tl.constexpr, BB: tl.constexpr,
           BH: tl.constexpr, BG: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """What the state gives each of the gates, (BB, BH). All are rows of one product, as warps share the rows."""
    s, k = tl.zeros((BG, BB), tl.float32), tl.arange(0, BK)
    for first in range(0, BK if HELD else D, BK):
        k_ = first + k
        rows = tl.load(x + at[None] + k_[:, None], here[None] & (k_ < D)[:, None], 0.0, cache_modifier=".cg")
        s = tl.dot(w if HELD else _weights(hh, begin, k_, D, G, BH, BG), rows, s, input_precision=DOT)
    if G > 1:
        even, odd = tl.split(tl.permute(tl.reshape(s, (2, 2, BH, BB)), (3, 2, 0, 1)))
        s0, s2 = tl.split(even)
        s1, s3 = tl.split(odd)
    else:
        s0 = tl.trans(s)
        s1, s2, s3 = s0, s0, s0
    return s0, s1, s2, s3


@triton.jit
def _weights_back(hh, j, k, part, parts: tl.constexpr, D, G: tl.constexpr):
    """(parts, BH, BK) of a head's weights, from the numbers k of each part of all gates to the units j."""
    each = (G * D + parts - 1) // parts
    of = part[:, None, None] * each + k[None, None]
    there = (k < each)[None, None] & (of < G * D) & (j < D)[None, :, None]
    return tl.load(hh + of * D + j[None, :, None], there, 0.0)


@triton.jit
def _asked(x, at, hh, j, here, H, D, w, G: tl.constexpr, HELD: tl.constexpr, DOT: tl.constexpr, BB: tl.constexpr,
           BH: tl.constexpr, BK: tl.constexpr, PARTS: tl.constexpr):  # fmt: skip
    """What all gates ask of the state, (BB, BH). The sum goes in parts, as warps share these."""
    sums, k, part = tl.zeros((PARTS, BH, BB), tl.float32), tl.arange(0, BK), tl.arange(0, PARTS)
    each = (G * D + PARTS - 1) // PARTS
    for first in range(0, BK if HELD else each, BK):
        k_ = first + k
        of = part[:, None] * each + k_[None]
        there = (k_ < each)[None] & (of < G * D)
        of_x = at[None, None] + (of // D * H + of % D)[:, :, None]
        rows = tl.load(x + of_x, there[:, :, None] & here[None, None], 0.0, cache_modifier=".cg")
        sums = tl.dot(w if HELD else _weights_back(hh, j, k_, part, PARTS, D, G), rows, sums, input_precision=DOT)
    return tl.trans(tl.sum(sums, 0))


@triton.jit
def forward(
    gx, hh, bn, h, c, hr, cr, lengths, reset, y, seen, gates, before, cells, counters, B, T, H, D, heads,
    CELL: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr, TRAINING: tl.constexpr, HELD: tl.constexpr,
    DOT: tl.constexpr, BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """`h` (B, H) and `c` (1 or 3, B, H) are the state, and change; `seen` (2, B, H) is what the next step sees of it,
    here the first.

    `gates` (B, T, 4 H), `before` (B, T, H), the h before each step, and `cells` (1 or 3, B, T, H), the c, are kept for
    the gradient.
    """
    SLSTM: tl.constexpr = CELL == "slstm" or CELL == "slstm_exp"
    G: tl.constexpr = 4 if CELL == "lstm" or SLSTM else (3 if CELL == "gru" else 1)
    BG: tl.constexpr = BH if G == 1 else 4 * BH
    b, head = tl.program_id(0) // heads * BB + tl.arange(0, BB), tl.program_id(0) % heads
    here, programs, wide = b < B, tl.num_programs(1), b.to(tl.int64)
    hh += head.to(tl.int64) * G * D * D
    rest, rest_T = B * H, ((wide * 0 + B) * T * H)[:, None]
    steps = tl.zeros((BB,), tl.int32) + T
    if RAGGED:
        steps = tl.load(lengths + b, here, 0).to(tl.int32)
    k = tl.arange(0, BK)
    w = _weights(hh, tl.program_id(1) * BH, k, D, G, BH, BG) if HELD else 0
    for t in range(0, T):
        now, then = seen + (t % 2) * B * H, seen + ((t + 1) % 2) * B * H
        real = here & (t < steps)
        cut = tl.zeros((BB,), tl.int32)
        cut_next = tl.zeros((BB,), tl.int32)
        if RESETS:
            cut = tl.load(reset + wide * T + t, real, 0).to(tl.int32)
            cut_next = tl.load(reset + wide * T + t + 1, here & (t + 1 < steps), 0).to(tl.int32)
        for begin in range(tl.program_id(1) * BH, D, programs * BH):
            j = begin + tl.arange(0, BH)
            units, own = j < D, head * D + j
            of_all, of_real = here[:, None] & units[None], real[:, None] & units[None]
            of_state, of_step = b[:, None] * H + own[None], (wide * T + t)[:, None] * H + own[None]
            of_gx, of_gates = (wide * T + t)[:, None] * G * H + own[None], (wide * T + t)[:, None] * 4 * H + own[None]
            past = tl.load(now + of_state, of_all, 0.0, cache_modifier=".cg").to(tl.float32)
            s0, s1, s2, s3 = _gates(now, b * H + head * D, hh, begin, here, D, w, G, HELD, DOT, BB, BH, BG, BK)
            s0 += tl.load(gx + of_gx, of_real, 0.0).to(tl.float32)
            if G > 1:
                s1 += tl.load(gx + of_gx + H, of_real, 0.0).to(tl.float32)
                x2 = tl.load(gx + of_gx + 2 * H, of_real, 0.0).to(tl.float32)
            if G > 3:
                s2 += x2
                s3 += tl.load(gx + of_gx + 3 * H, of_real, 0.0).to(tl.float32)
                c_kept = tl.load(c + of_state, of_all, 0.0)
                c_past = c_kept
                if RESETS:
                    c_past = tl.where(cut[:, None] != 0, tl.load(cr + of_state, of_all, 0.0).to(tl.float32), c_past)
            if CELL == "lstm":
                c_next, value, s0, s1, s2, s3 = lstm(s0, s1, s2, s3, c_past)
            elif SLSTM:
                n_kept = tl.load(c + rest + of_state, of_all, 1.0)
                m_kept = tl.load(c + 2 * rest + of_state, of_all, 0.0)
                n_past, m_past = n_kept, m_kept
                if RESETS:
                    again = cut[:, None] != 0
                    n_past = tl.where(again, tl.load(cr + rest + of_state, of_all, 1.0).to(tl.float32), n_past)
                    m_past = tl.where(again, tl.load(cr + 2 * rest + of_state, of_all, 0.0).to(tl.float32), m_past)
                c_next, n_next, m_next, value, s2, s3 = slstm(
                    s0, s1, s2, s3, c_past, n_past, m_past, CELL == "slstm_exp"
                )
                tl.store(c + rest + of_state, tl.where(real[:, None], n_next, n_kept), of_all)
                tl.store(c + 2 * rest + of_state, tl.where(real[:, None], m_next, m_kept), of_all)
                if TRAINING:
                    tl.store(cells + rest_T + of_step, n_past, of_real)
                    tl.store(cells + 2 * rest_T + of_step, m_past, of_real)
            elif CELL == "gru":
                s3 = s2 + tl.load(bn + own, units, 0.0).to(tl.float32)[None]
                value, s0, s1, s2 = gru(s0, s1, x2, s3, past)
            elif CELL == "tanh":
                value = tanh(s0)
            else:
                value = tl.where(s0 < 0.0, 0.0, s0)
            if G > 3:
                tl.store(c + of_state, tl.where(real[:, None], c_next, c_kept), of_all)
            if TRAINING and G > 1:
                tl.store(gates + of_gates, s0, of_real)
                tl.store(gates + of_gates + H, s1, of_real)
                tl.store(gates + of_gates + 2 * H, s2, of_real)
                tl.store(gates + of_gates + 3 * H, s3, of_real)
                if G > 3:
                    tl.store(cells + of_step, c_past, of_real)
            value = value.to(y.dtype.element_ty).to(tl.float32)  # the state is what the output says
            tl.store(y + of_step, value.to(y.dtype.element_ty), of_real)
            if TRAINING:
                tl.store(before + of_step, past.to(before.dtype.element_ty), of_real)
            state = tl.where(real[:, None], value, tl.load(h + of_state, of_all, 0.0).to(tl.float32))
            tl.store(h + of_state, state.to(h.dtype.element_ty), of_all)
            if RESETS:
                state = tl.where(cut_next[:, None] != 0, tl.load(hr + of_state, of_all, 0.0).to(tl.float32), state)
            tl.store(then + of_state, state.to(seen.dtype.element_ty), of_all)
        wait(counters + tl.program_id(0), (t + 1) * programs)


@triton.jit
def backward(
    hh, lengths, reset, y, gates, before, cells, dy, dh, dc, dhr, dcr, dgx, dgh, counters, B, T, H, D, heads,
    CELL: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr, HELD: tl.constexpr,
    DOT: tl.constexpr, BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """`dh` and `dc` are the gradient of the last state, and become that of the first; `dgx` (B, T, G H) is that of what
    the input gives the gates, `dgh` that of what the state gives them (the same, but for a GRU's candidate)."""
    SLSTM: tl.constexpr = CELL == "slstm" or CELL == "slstm_exp"
    G: tl.constexpr = 4 if CELL == "lstm" or SLSTM else (3 if CELL == "gru" else 1)
    b, head = tl.program_id(0) // heads * BB + tl.arange(0, BB), tl.program_id(0) % heads
    here, programs, wide = b < B, tl.num_programs(1), b.to(tl.int64)
    hh += head.to(tl.int64) * G * D * D
    rest, rest_T = B * H, ((wide * 0 + B) * T * H)[:, None]
    steps = tl.zeros((BB,), tl.int32) + T
    if RAGGED:
        steps = tl.load(lengths + b, here, 0).to(tl.int32)
    j, k = tl.program_id(1) * BH + tl.arange(0, BH), tl.arange(0, BK)
    w = _weights_back(hh, j, k, tl.arange(0, PARTS), PARTS, D, G) if HELD else 0
    for back in range(0, T + 1):
        t = T - 1 - back  # -1 at last, when only what the first step asks of its state is left
        at = 0 * steps + t
        real, follows = here & (at < steps) & (at >= 0), here & (at + 1 < steps)
        cut = tl.zeros((BB,), tl.int32)
        if RESETS:
            cut = tl.load(reset + wide * T + t + 1, follows, 0).to(tl.int32)
        for begin in range(tl.program_id(1) * BH, D, programs * BH):
            j = begin + tl.arange(0, BH)
            units, own = j < D, head * D + j
            of_all, of_real = here[:, None] & units[None], real[:, None] & units[None]
            of_state, of_step = b[:, None] * H + own[None], (wide * T + t)[:, None] * H + own[None]
            of_gx, of_gates = (wide * T + t)[:, None] * G * H + own[None], (wide * T + t)[:, None] * 4 * H + own[None]
            asked = tl.load(dh + of_state, of_all, 0.0)
            later = (wide * T + t + 1) * G * H + head * D
            asked += _asked(dgh, later, hh, j, follows, H, D, w, G, HELD, DOT, BB, BH, BK, PARTS)
            restored = (cut[:, None] != 0) & of_all
            if RESETS:
                tl.store(dhr + of_state, tl.load(dhr + of_state, restored, 0.0) + asked, restored)
                asked = tl.where(restored, 0.0, asked)
            whole = asked + tl.load(dy + of_step, of_real, 0.0).to(tl.float32)
            if G > 3:
                of_c, c_past = tl.load(dc + of_state, of_all, 0.0), tl.load(cells + of_step, of_real, 0.0)
                if RESETS:
                    tl.store(dcr + of_state, tl.load(dcr + of_state, restored, 0.0) + of_c, restored)
                    of_c = tl.where(restored, 0.0, of_c)
            if G > 1:
                s0, s1 = tl.load(gates + of_gates, of_real, 0.0), tl.load(gates + of_gates + H, of_real, 0.0)
                s2, s3 = (
                    tl.load(gates + of_gates + 2 * H, of_real, 0.0),
                    tl.load(gates + of_gates + 3 * H, of_real, 0.0),
                )
            if CELL == "lstm":
                d0, d1, d2, d3, to_c = lstm_gradient(whole, of_c, s0, s1, s2, s3, c_past)
            elif SLSTM:
                n_past = tl.load(cells + rest_T + of_step, of_real, 1.0)
                m_past = tl.load(cells + 2 * rest_T + of_step, of_real, 0.0)
                of_n = tl.load(dc + rest + of_state, of_all, 0.0)
                of_m = tl.load(dc + 2 * rest + of_state, of_all, 0.0)
                if RESETS:
                    of_r = dcr + rest + of_state
                    tl.store(of_r, tl.load(of_r, restored, 0.0) + of_n, restored)
                    of_r += rest
                    tl.store(of_r, tl.load(of_r, restored, 0.0) + of_m, restored)
                    of_n, of_m = tl.where(restored, 0.0, of_n), tl.where(restored, 0.0, of_m)
                d0, d1, d2, d3, to_c, to_n, to_m = slstm_gradient(
                    whole, of_c, of_n, of_m, s0, s1, s2, s3, c_past, n_past, m_past, CELL == "slstm_exp"
                )
                tl.store(dc + rest + of_state, tl.where(real[:, None], to_n, of_n), of_all)
                tl.store(dc + 2 * rest + of_state, tl.where(real[:, None], to_m, of_m), of_all)
            elif CELL == "gru":
                past = tl.load(before + of_step, of_real, 0.0).to(tl.float32)
                d0, d1, dx2, around = gru_gradient(whole, s0, s1, s2, s3, past)
                d2 = dx2 * s0
                asked = tl.where(real[:, None], around, asked)
                tl.store(dgx + of_gx, d0.to(dgx.dtype.element_ty), of_real)
                tl.store(dgx + of_gx + H, d1.to(dgx.dtype.element_ty), of_real)
                tl.store(dgx + of_gx + 2 * H, dx2.to(dgx.dtype.element_ty), of_real)
            else:
                value = tl.load(y + of_step, of_real, 0.0).to(tl.float32)
                slope = 1.0 - value * value
                if CELL == "relu":
                    slope = tl.where(value > 0.0, 1.0, 0.0)
                d0 = whole * slope
            tl.store(dgh + of_gx, d0.to(dgh.dtype.element_ty), of_real)
            if G > 1:
                tl.store(dgh + of_gx + H, d1.to(dgh.dtype.element_ty), of_real)
                tl.store(dgh + of_gx + 2 * H, d2.to(dgh.dtype.element_ty), of_real)
            if G > 3:
                tl.store(dgh + of_gx + 3 * H, d3.to(dgh.dtype.element_ty), of_real)
                tl.store(dc + of_state, tl.where(real[:, None], to_c, of_c), of_all)
            if CELL != "gru":
                asked = tl.where(real[:, None], 0.0, asked)
            tl.store(dh + of_state, asked, of_all)
        wait(counters + tl.program_id(0), (back + 1) * programs)
