"""The matrix state of `algebra`, all chunks together: the same numbers in few calls of torch, on any device.

Within a chunk of C steps the state is never formed. What step s writes is read at step t through the decay between
them, so reads are a triangular matrix of scores times what is written (Yang et al. 2024, arXiv:2312.06635, section 4).
What a step erases is itself a read of what was there before, so all that a chunk erases solves a triangular system
(Yang et al. 2024, arXiv:2406.06484, section 3). From chunk to chunk the state goes one by one.

The decay between two steps is a product up to the middle of the smallest aligned block that holds both, times one from
there on. No ratio of products is formed and no logarithm, so decays of exactly 0 and near 1 keep their digits.

    B batch, T time, H heads in G groups, K keys, V values, W = K or 1 decays; N chunks of C steps
    X reads: by q, after the step's write; by b, before it        Y writes: k v'; a u', u = b' S being erased
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clew.ops import algebra, chunked
from clew.ops import definition as ref
from clew.ops.chunked_joining import LINEAR

CHUNK = 64  # steps; a power of 2


def matrix(
    q_BTGK: Tensor,
    k_BTGK: Tensor,
    v_BTHV: Tensor,
    w_BTHW: Tensor,
    a_BTGK: Tensor | None,
    b_BTGK: Tensor | None,
    S_BHKV: Tensor,
    initial: Tensor,
    lengths: Tensor | None,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """See `ops.matrix_scan`.

    What is not finite is taken out first, and all of its head that it would have reached is NaN in the end, with a
    gradient of 0: products of matrices would carry 0 times NaN to earlier steps and past resets.
    """
    if v_BTHV.shape[1] < chunked.FEW:
        return algebra.matrix(q_BTGK, k_BTGK, v_BTHV, w_BTHW, a_BTGK, b_BTGK, S_BHKV, initial, lengths, reset)
    q, k, a, b = (algebra.each_head(t, v_BTHV.shape[2]) for t in (q_BTGK, k_BTGK, a_BTGK, b_BTGK))
    given = [t for t in (q, k, v_BTHV, w_BTHW, a, b) if t is not None]
    real_BT = ref.valid_steps(v_BTHV, lengths)
    reset = None if reset is None else reset.to(v_BTHV.device)
    with chunked.exact((S_BHKV, initial, *given)) as ((S, initial, *given), dtype):
        if real_BT is not None:
            given = [ref.hide_padding(t, real_BT) for t in given]
            given[3] = given[3].masked_fill(~real_BT[:, :, None, None], 1.0)
            reset = None if reset is None else reset & real_BT
        bad_BTH = torch.stack([_not_finite(t, -1) for t in given]).any(0)
        bad_BH, bad_initial = (_not_finite(t, (-2, -1)) for t in (S, initial))
        given = [t.masked_fill(bad_BTH[..., None], 0.0) for t in given]
        S, initial = (t.masked_fill(bad[..., None, None], 0.0) for t, bad in ((S, bad_BH), (initial, bad_initial)))
        y, S = _chunks(given, S, initial, reset)
        lost_BTH1 = _lost(bad_BTH, bad_BH, bad_initial, reset)[..., None]
        y, S = y.masked_fill(lost_BTH1, torch.nan), S.masked_fill(lost_BTH1[:, -1, ..., None], torch.nan)
    y, S = y.to(dtype), S.to(dtype)
    if real_BT is None:
        return y, S
    return ref.hide_padding(y, real_BT), torch.where(real_BT[:, :1, None, None], S, S_BHKV)


def _not_finite(x: Tensor, over: int | tuple[int, ...]) -> Tensor:
    return (x.detach() * 0).sum(over) != 0  # 0 times what is not finite is NaN


def _lost(bad_BTH: Tensor, bad_BH: Tensor, bad_initial: Tensor, reset: Tensor | None) -> Tensor:
    """The outputs (B, T, H) that something bad reaches: a step of their piece up to them, or what it began with."""
    number_T1 = torch.arange(1, bad_BTH.shape[1] + 1, device=bad_BTH.device)[:, None]
    last_BTH = torch.where(bad_BTH, number_T1, 0).cummax(1).values
    if reset is None:
        return (last_BTH > 0) | bad_BH[:, None]
    begin_BT1 = torch.where(reset[..., None], number_T1, 0).cummax(1).values
    return (last_BTH >= begin_BT1.clamp(min=1)) | torch.where(begin_BT1 > 0, bad_initial[:, None], bad_BH[:, None])


def _chunks(given: list[Tensor], S_BHKV: Tensor, initial: Tensor, reset: Tensor | None) -> tuple[Tensor, Tensor]:
    """Outputs (B, T, H, V) and the last state of finite tensors (B, T, H, ...) without padding."""
    T = given[0].shape[1]
    C = min(CHUNK, 1 << (T - 1).bit_length())

    def in_chunks(x_BTHK: Tensor, idle: float = 0.0) -> Tensor:
        return F.pad(x_BTHK, (0, 0, 0, 0, 0, -T % C), value=idle).unflatten(1, (-1, C)).transpose(2, 3)

    q, k, v, w, *ab = (in_chunks(x, 1.0 if i == 3 else 0.0) for i, x in enumerate(given))
    a, b = ab or (None, None)
    read, write, kept = torch.stack([q]), torch.stack([k]), torch.stack([w])  # kept: from before a step to its reads
    if a is not None and b is not None:
        read, write, kept = torch.stack([q, b]), torch.stack([k, a]), torch.stack([w, torch.ones_like(w)])
    cut = None if reset is None else in_chunks(reset[:, :, None, None].to(w.dtype)) > 0
    scores, since, until = _scores(read, write, kept if cut is None else kept.masked_fill(cut, 0.0))

    # Reads, and the state that a chunk leaves: a part that comes from inside it, and one times the state before it.
    write = write * until
    inside, outside = scores[:, 0] @ v, read * since
    leaves, keeps = write[0].mT @ v, since[0][..., -1, :, None]
    if cut is not None:
        restored = _since_reset(kept, cut)
        inside = inside + (read * restored) @ initial[:, None]
        leaves = leaves + restored[0][..., -1, :, None] * initial[:, None]
    y, y_of = inside[0], outside[0]
    if a is not None:
        known = torch.cat([inside[1], outside[1]], -1)
        u = torch.linalg.solve_triangular(-scores[1, 1], known, upper=False, unitriangular=True)
        u, u_of = u.split([v.shape[-1], k.shape[-1]], -1)
        y, y_of = y + scores[0, 1] @ u, y_of + scores[0, 1] @ u_of
        each_key = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
        leaves, keeps = leaves + write[1].mT @ u, write[1].mT @ u_of + each_key * keeps
    before = []
    for keep, leave in zip(keeps.unbind(1), leaves.unbind(1), strict=True):
        before.append(S_BHKV)
        S_BHKV = leave + (keep * S_BHKV if a is None else keep @ S_BHKV)
    y_BNHCV = y + y_of @ torch.stack(before, 1)
    return y_BNHCV.transpose(2, 3).flatten(1, 2)[:, :T], S_BHKV


def _since_reset(kept_XBNHCW: Tensor, cut_BNHC1: Tensor) -> Tensor:
    """What each read sees of the initial state, if a reset in its chunk restored that: the decay since, else 0."""
    w = kept_XBNHCW[0]
    after = LINEAR.states(w.masked_fill(cut_BNHC1, 0.0), w * cut_BNHC1)
    before = torch.where(cut_BNHC1, 1.0, F.pad(after, (0, 0, 1, -1)))
    return torch.stack([after, before][: len(kept_XBNHCW)])


def _scores(x_XCK: Tensor, y_YCK: Tensor, since_XCW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (X, Y, ..., C, C) of reads and writes, the decay (X, ..., C, W) from the chunk's beginning to each read,
    and that (1, ..., C, W) from after each step to the chunk's end.

    Blocks of one step become ever larger ones: the second half of each reads what the first wrote.

    Args:
        since_XCW: the decay from before each step to its reads.
    """
    if since_XCW.shape[-1] == 1 < x_XCK.shape[-1]:  # a decay that all keys share
        decays, since, until = _scores(torch.ones_like(since_XCW), torch.ones_like(since_XCW[:1]), since_XCW)
        return torch.einsum("x...ck,y...dk->xy...cd", x_XCK, y_YCK) * decays, since, until
    since, until = since_XCW, torch.ones_like(since_XCW[:1])
    same = (x_XCK[0] * y_YCK).sum(-1)[..., None, None]
    scores = torch.stack([same, torch.zeros_like(same)][: len(x_XCK)])  # b reads before its step writes
    half = 1
    while half < x_XCK.shape[-2]:
        halves = (t.unflatten(-2, (-1, 2, half)).unbind(-3) for t in (x_XCK, y_YCK, since, until))
        (_, x), (y, _), (since_1, since_2), (until_1, until_2) = halves
        scores_1, scores_2 = scores.unflatten(-3, (-1, 2)).unbind(-3)
        across = torch.einsum("x...ck,y...dk->xy...cd", x * since_2, y * until_1)
        scores = torch.cat([F.pad(scores_1, (0, half)), torch.cat([across, scores_2], -1)], -2)
        whole_1, whole_2 = since_1[:1, ..., -1:, :], since_2[:1, ..., -1:, :]
        since = torch.stack([since_1, since_2 * whole_1], -3).flatten(-4, -2)
        until = torch.stack([until_1 * whole_2, until_2], -3).flatten(-4, -2)
        half *= 2
    return scores[..., 0, :, :], since, until
