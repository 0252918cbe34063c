# pyright: reportAssignmentType=false, reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false, reportOperatorIssue=false
"""Elman, GRU and LSTM: one launch for all steps. Each program has some units of some rows, and waits after each step
until the programs of the same rows have written theirs; what a step sees of the state goes through two buffers in turn.

How many programs there are changes no number: with fewer than there are blocks of units, each goes over several.

B rows, T steps, H hidden units, G gates; tiles are (BB, BH), products go over BK at a time
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _wait(counter, target):
    """Until so many programs have come here: what they wrote before is there to be read."""
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="acq_rel")
    while tl.atomic_add(counter, 0, sem="acq_rel") < target:
        pass
    tl.debug_barrier()


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _tanh(x):
    """Of e^-2|x|, which cannot overflow."""
    e = tl.exp(-2.0 * tl.abs(x))
    y = (1.0 - e) / (1.0 + e)
    return tl.where(x < 0.0, -y, y)


@triton.jit
def _product(x, w, b, j, here, units, first, step, K, to_k, to_j, BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr):
    """Rows `x + b * step` of K numbers times w[k, j] at `w + first + k * to_k + j * to_j`: (BB, BH)."""
    sums = tl.zeros((BB, BH), tl.float32)
    for begin in range(0, K, BK):
        k = begin + tl.arange(0, BK)
        rows = tl.load(x + b[:, None] * step + k[None], here[:, None] & (k < K)[None], 0.0, cache_modifier=".cg")
        tile = tl.load(w + first + k[:, None] * to_k + j[None] * to_j, (k < K)[:, None] & units[None], 0.0)
        sums = tl.dot(rows, tile, sums, input_precision="ieee")
    return sums


@triton.jit
def forward(
    gx, hh, bn, h, c, hr, cr, lengths, reset, y, seen, gates, before, cells, counters, B, T, H,
    CELL: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr, TRAINING: tl.constexpr,
    BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """`h` and `c` are the state, and change; `seen` (2, B, H) is what the next step sees of it, here the first.

    `gates` (B, T, 4 H), `before` (B, T, H) and `cells` (B, T, H), the c before each step, are kept for the gradient.
    """
    G: tl.constexpr = 4 if CELL == "lstm" else (3 if CELL == "gru" else 1)
    b = tl.program_id(0) * BB + tl.arange(0, BB)
    here, programs = b < B, tl.num_programs(1)
    wide = b.to(tl.int64)
    steps = tl.zeros((BB,), tl.int32) + T
    if RAGGED:
        steps = tl.load(lengths + b, here, 0).to(tl.int32)
    for t in range(0, T):
        now, then = seen + (t % 2) * B * H, seen + ((t + 1) % 2) * B * H
        real = here & (t < steps)
        cut = tl.zeros((BB,), tl.int32)
        cut_next = tl.zeros((BB,), tl.int32)
        if RESETS:
            cut = tl.load(reset + wide * T + t, real, 0).to(tl.int32)
            cut_next = tl.load(reset + wide * T + t + 1, here & (t + 1 < steps), 0).to(tl.int32)
        for begin in range(tl.program_id(1) * BH, H, programs * BH):
            j = begin + tl.arange(0, BH)
            units = j < H
            of_all, of_real = here[:, None] & units[None], real[:, None] & units[None]
            of_state, of_step = b[:, None] * H + j[None], (wide * T + t)[:, None] * H + j[None]
            of_gx, of_gates = (wide * T + t)[:, None] * G * H + j[None], (wide * T + t)[:, None] * 4 * H + j[None]
            past = tl.load(now + of_state, of_all, 0.0, cache_modifier=".cg").to(tl.float32)
            first = _product(now, hh, b, j, here, units, 0, H, H, 1, H, BB, BH, BK)
            first += tl.load(gx + of_gx, of_real, 0.0).to(tl.float32)
            if CELL == "lstm":
                i = _sigmoid(first)
                f = _product(now, hh, b, j, here, units, H * H, H, H, 1, H, BB, BH, BK)
                f = _sigmoid(f + tl.load(gx + of_gx + H, of_real, 0.0).to(tl.float32))
                g = _product(now, hh, b, j, here, units, 2 * H * H, H, H, 1, H, BB, BH, BK)
                g = _tanh(g + tl.load(gx + of_gx + 2 * H, of_real, 0.0).to(tl.float32))
                o = _product(now, hh, b, j, here, units, 3 * H * H, H, H, 1, H, BB, BH, BK)
                o = _sigmoid(o + tl.load(gx + of_gx + 3 * H, of_real, 0.0).to(tl.float32))
                c_past = tl.load(c + of_state, of_all, 0.0)
                c_kept = c_past
                if RESETS:
                    c_past = tl.where(cut[:, None] != 0, tl.load(cr + of_state, of_all, 0.0).to(tl.float32), c_past)
                c_next = f * c_past + i * g
                value = o * _tanh(c_next)
                tl.store(c + of_state, tl.where(real[:, None], c_next, c_kept), of_all)
                if TRAINING:
                    tl.store(gates + of_gates, i, of_real)
                    tl.store(gates + of_gates + H, f, of_real)
                    tl.store(gates + of_gates + 2 * H, g, of_real)
                    tl.store(gates + of_gates + 3 * H, o, of_real)
                    tl.store(cells + of_step, c_past, of_real)
            elif CELL == "gru":
                r = _sigmoid(first)
                u = _product(now, hh, b, j, here, units, H * H, H, H, 1, H, BB, BH, BK)
                u = _sigmoid(u + tl.load(gx + of_gx + H, of_real, 0.0).to(tl.float32))
                hn = _product(now, hh, b, j, here, units, 2 * H * H, H, H, 1, H, BB, BH, BK)
                hn += tl.load(bn + j, units, 0.0).to(tl.float32)[None]
                n = _tanh(tl.load(gx + of_gx + 2 * H, of_real, 0.0).to(tl.float32) + r * hn)
                value = n + u * (past - n)
                if TRAINING:
                    tl.store(gates + of_gates, r, of_real)
                    tl.store(gates + of_gates + H, u, of_real)
                    tl.store(gates + of_gates + 2 * H, n, of_real)
                    tl.store(gates + of_gates + 3 * H, hn, of_real)
            elif CELL == "tanh":
                value = _tanh(first)
            else:
                value = tl.where(first < 0.0, 0.0, first)
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
    hh, lengths, reset, y, gates, before, cells, dy, dh, dc, dhr, dcr, dgx, dgh, counters, B, T, H,
    CELL: tl.constexpr, RAGGED: tl.constexpr, RESETS: tl.constexpr,
    BB: tl.constexpr, BH: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """`dh` and `dc` are the gradient of the last state, and become that of the first; `dgx` (B, T, G H) is that of what
    the input gives the gates, `dgh` that of what the state gives them (the same, but for a GRU's candidate)."""
    G: tl.constexpr = 4 if CELL == "lstm" else (3 if CELL == "gru" else 1)
    b = tl.program_id(0) * BB + tl.arange(0, BB)
    here, programs = b < B, tl.num_programs(1)
    wide = b.to(tl.int64)
    steps = tl.zeros((BB,), tl.int32) + T
    if RAGGED:
        steps = tl.load(lengths + b, here, 0).to(tl.int32)
    for back in range(0, T + 1):
        t = T - 1 - back  # -1 at last, when only what the first step asks of its state is left
        at = 0 * steps + t
        real, follows = here & (at < steps) & (at >= 0), here & (at + 1 < steps)
        cut = tl.zeros((BB,), tl.int32)
        if RESETS:
            cut = tl.load(reset + wide * T + t + 1, follows, 0).to(tl.int32)
        for begin in range(tl.program_id(1) * BH, H, programs * BH):
            j = begin + tl.arange(0, BH)
            units = j < H
            of_all, of_real = here[:, None] & units[None], real[:, None] & units[None]
            of_state, of_step = b[:, None] * H + j[None], (wide * T + t)[:, None] * H + j[None]
            of_gx, of_gates = (wide * T + t)[:, None] * G * H + j[None], (wide * T + t)[:, None] * 4 * H + j[None]
            asked = tl.load(dh + of_state, of_all, 0.0)
            later = dgh + (t + 1) * G * H
            asked += _product(later, hh, wide, j, follows, units, 0, T * G * H, G * H, H, 1, BB, BH, BK)
            if RESETS:
                restored = (cut[:, None] != 0) & of_all
                tl.store(dhr + of_state, tl.load(dhr + of_state, restored, 0.0) + asked, restored)
                asked = tl.where(restored, 0.0, asked)
            if CELL == "lstm":
                of_c = tl.load(dc + of_state, of_all, 0.0)
                if RESETS:
                    tl.store(dcr + of_state, tl.load(dcr + of_state, restored, 0.0) + of_c, restored)
                    of_c = tl.where(restored, 0.0, of_c)
            whole = asked + tl.load(dy + of_step, of_real, 0.0).to(tl.float32)
            if CELL == "lstm":
                i, f = tl.load(gates + of_gates, of_real, 0.0), tl.load(gates + of_gates + H, of_real, 0.0)
                g, o = tl.load(gates + of_gates + 2 * H, of_real, 0.0), tl.load(gates + of_gates + 3 * H, of_real, 0.0)
                c_past = tl.load(cells + of_step, of_real, 0.0)
                read = _tanh(f * c_past + i * g)
                own = of_c + whole * o * (1.0 - read * read)
                d0, d1 = own * g * i * (1.0 - i), own * c_past * f * (1.0 - f)
                d2, d3 = own * i * (1.0 - g * g), whole * read * o * (1.0 - o)
                tl.store(dgh + of_gx, d0.to(dgh.dtype.element_ty), of_real)
                tl.store(dgh + of_gx + H, d1.to(dgh.dtype.element_ty), of_real)
                tl.store(dgh + of_gx + 2 * H, d2.to(dgh.dtype.element_ty), of_real)
                tl.store(dgh + of_gx + 3 * H, d3.to(dgh.dtype.element_ty), of_real)
                tl.store(dc + of_state, tl.where(real[:, None], own * f, of_c), of_all)
                asked = tl.where(real[:, None], 0.0, asked)
            elif CELL == "gru":
                r, u = tl.load(gates + of_gates, of_real, 0.0), tl.load(gates + of_gates + H, of_real, 0.0)
                n, hn = tl.load(gates + of_gates + 2 * H, of_real, 0.0), tl.load(gates + of_gates + 3 * H, of_real, 0.0)
                past = tl.load(before + of_step, of_real, 0.0).to(tl.float32)
                dn = whole * (1.0 - u) * (1.0 - n * n)
                d0, d1 = dn * hn * r * (1.0 - r), whole * (past - n) * u * (1.0 - u)
                tl.store(dgx + of_gx, d0.to(dgx.dtype.element_ty), of_real)
                tl.store(dgx + of_gx + H, d1.to(dgx.dtype.element_ty), of_real)
                tl.store(dgx + of_gx + 2 * H, dn.to(dgx.dtype.element_ty), of_real)
                tl.store(dgh + of_gx, d0.to(dgh.dtype.element_ty), of_real)
                tl.store(dgh + of_gx + H, d1.to(dgh.dtype.element_ty), of_real)
                tl.store(dgh + of_gx + 2 * H, (dn * r).to(dgh.dtype.element_ty), of_real)
                asked = tl.where(real[:, None], whole * u, asked)
            else:
                value = tl.load(y + of_step, of_real, 0.0).to(tl.float32)
                slope = 1.0 - value * value
                if CELL == "relu":
                    slope = tl.where(value > 0.0, 1.0, 0.0)
                tl.store(dgh + of_gx, (whole * slope).to(dgh.dtype.element_ty), of_real)
                asked = tl.where(real[:, None], 0.0, asked)
            tl.store(dh + of_state, asked, of_all)
        _wait(counters + tl.program_id(0), (back + 1) * programs)
