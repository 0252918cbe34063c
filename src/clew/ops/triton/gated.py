# pyright: reportAssignmentType=false, reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportGeneralTypeIssues=false
"""Elman, GRU, LSTM and sLSTM: one launch for all steps. Each program has some units of one head of some rows, and waits
after each step until the programs of the same rows and head have written theirs; what a step sees of the state goes
through two buffers in turn. Where its weights fit into a program (HELD), they are read once.

Where they are not held, how many programs there are changes no number: with fewer than there are blocks of units, each
goes over several.

B rows, T steps, H hidden units, D of a head, G gates; tiles are (BB, BH), products go over BK at a time
"""

from __future__ import annotations

import triton
import triton.language as tl

from clew.ops.triton.gates import gru, gru_gradient, lstm, lstm_gradient, slstm, slstm_gradient, tanh


@triton.jit
def _wait(counter, target):
    """Until so many programs have come here: what they wrote before is there to be read."""
    tl.debug_barrier()
    if tl.num_programs(1) > 1:
        tl.atomic_add(counter, 1, sem="acq_rel")
        while tl.atomic_add(counter, 0, sem="acquire") < target:
            pass
        tl.debug_barrier()


@triton.jit
def _weights(hh, gate, j, k, units, D, BACK: tl.constexpr):
    """(BK, BH) of a head's weights (G D, D): from the units k to those j of a gate; BACK: from the gate's k to j."""
    at = (gate * D + k[:, None]) * D + j[None] if BACK else (gate * D + j[None]) * D + k[:, None]
    return tl.load(hh + at, (k < D)[:, None] & units[None], 0.0)


@triton.jit
def _product(x, at, k, here, D, w, sums, DOT: tl.constexpr):
    rows = tl.load(x + at[:, None] + k[None], here[:, None] & (k < D)[None], 0.0, cache_modifier=".cg")
    return tl.dot(rows, w, sums, input_precision=DOT)


@triton.jit
def _forwards(x, at, hh, j, here, units, D, w0, w1, w2, w3, G: tl.constexpr, HELD: tl.constexpr, DOT: tl.constexpr,
              BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """What the state gives each of the gates, (BB, BH)."""
    s0, k = tl.zeros((BB, BH), tl.float32), tl.arange(0, BK)
    s1, s2, s3 = s0, s0, s0
    for begin in range(0, BK if HELD else D, BK):
        k_ = begin + k
        if HELD:
            rows = tl.load(x + at[:, None] + k_[None], here[:, None] & (k_ < D)[None], 0.0, cache_modifier=".cg")
            s0 = tl.dot(rows, w0, s0, input_precision=DOT)
            if G > 1:
                s1, s2 = tl.dot(rows, w1, s1, input_precision=DOT), tl.dot(rows, w2, s2, input_precision=DOT)
            if G > 3:
                s3 = tl.dot(rows, w3, s3, input_precision=DOT)
        else:
            rows = tl.load(x + at[:, None] + k_[None], here[:, None] & (k_ < D)[None], 0.0, cache_modifier=".cg")
            s0 = tl.dot(rows, _weights(hh, 0, j, k_, units, D, False), s0, input_precision=DOT)
            if G > 1:
                s1 = tl.dot(rows, _weights(hh, 1, j, k_, units, D, False), s1, input_precision=DOT)
                s2 = tl.dot(rows, _weights(hh, 2, j, k_, units, D, False), s2, input_precision=DOT)
            if G > 3:
                s3 = tl.dot(rows, _weights(hh, 3, j, k_, units, D, False), s3, input_precision=DOT)
    return s0, s1, s2, s3


@triton.jit
def _backwards(x, at, hh, j, here, units, H, D, w0, w1, w2, w3, G: tl.constexpr, HELD: tl.constexpr,
               DOT: tl.constexpr, BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr):  # fmt: skip
    """What all gates ask of the state, (BB, BH)."""
    sums, k = tl.zeros((BB, BH), tl.float32), tl.arange(0, BK)
    if HELD:
        sums = _product(x, at, k, here, D, w0, sums, DOT)
        if G > 1:
            sums = _product(x, at + H, k, here, D, w1, sums, DOT)
            sums = _product(x, at + 2 * H, k, here, D, w2, sums, DOT)
        if G > 3:
            sums = _product(x, at + 3 * H, k, here, D, w3, sums, DOT)
    else:
        for gate in tl.static_range(G):
            for begin in range(0, D, BK):
                k_ = begin + k
                sums = _product(x, at + gate * H, k_, here, D, _weights(hh, gate, j, k_, units, D, True), sums, DOT)
    return sums


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
    b, head = tl.program_id(0) // heads * BB + tl.arange(0, BB), tl.program_id(0) % heads
    here, programs, wide = b < B, tl.num_programs(1), b.to(tl.int64)
    hh += head.to(tl.int64) * G * D * D
    rest, rest_T = B * H, ((wide * 0 + B) * T * H)[:, None]
    steps = tl.zeros((BB,), tl.int32) + T
    if RAGGED:
        steps = tl.load(lengths + b, here, 0).to(tl.int32)
    j, k = tl.program_id(1) * BH + tl.arange(0, BH), tl.arange(0, BK)
    w0 = _weights(hh, 0, j, k, j < D, D, False) if HELD else 0
    w1 = _weights(hh, 1, j, k, j < D, D, False) if HELD and G > 1 else 0
    w2 = _weights(hh, 2, j, k, j < D, D, False) if HELD and G > 1 else 0
    w3 = _weights(hh, 3, j, k, j < D, D, False) if HELD and G > 3 else 0
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
            s0, s1, s2, s3 = _forwards(
                now, b * H + head * D, hh, j, here, units, D, w0, w1, w2, w3, G, HELD, DOT, BB, BH, BK
            )
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
        _wait(counters + tl.program_id(0), (t + 1) * programs)


@triton.jit
def backward(
    hh, lengths, reset, y, gates, before, cells, dy, dh, dc, dhr, dcr, dgx, dgh, counters, B, T, H, D, heads,
    CELL: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr, HELD: tl.constexpr,
    DOT: tl.constexpr, BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr,
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
    w0 = _weights(hh, 0, j, k, j < D, D, True) if HELD else 0
    w1 = _weights(hh, 1, j, k, j < D, D, True) if HELD and G > 1 else 0
    w2 = _weights(hh, 2, j, k, j < D, D, True) if HELD and G > 1 else 0
    w3 = _weights(hh, 3, j, k, j < D, D, True) if HELD and G > 3 else 0
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
            asked += _backwards(dgh, later, hh, j, follows, units, H, D, w0, w1, w2, w3, G, HELD, DOT, BB, BH, BK)
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
        _wait(counters + tl.program_id(0), (back + 1) * programs)
