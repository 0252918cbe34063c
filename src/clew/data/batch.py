"""Sequences as training batches, in an order that is a pure function of seed and epoch.

Buckets   whole sequences of like length, padded to the longest of their batch
Lanes     one endless stream cut into parallel lanes and windows, for truncated backpropagation through time

B rows, T steps, I input features, N sequences
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clew.errors import DataError

SORTED_AT_ONCE = 50  # batches' worth of sequences that are sorted together: like lengths meet, the order stays random

Supervise = int | str  # or "last"


class Batch(NamedTuple):
    """What a model learns from.

    Args:
        x: (B, T, I) numbers, or whole numbers where units of text stand.
        target: (B, T, ...) what belongs to each step.
        lengths: (B,) real steps; None when all are.
        mask: (B, T) bool, the steps that have a loss; None for every real one.
        reset: (B, T) bool, the steps that begin anew.
        advance: with a carried state, the steps after which the next batch begins; 0 = all of them.
        reach: with a carried state, the steps after which a gradient is cut; 0 = never within the batch.
    """

    x: Tensor
    target: Tensor
    lengths: Tensor | None = None
    mask: Tensor | None = None
    reset: Tensor | None = None
    advance: int = 0
    reach: int = 0

    @property
    def supervised(self) -> Tensor | None:
        """(B, T) bool, the real steps that have a loss; None when all have."""
        if self.lengths is None:
            return self.mask
        real_BT = torch.arange(self.x.shape[1], device=self.x.device) < self.lengths[:, None]
        return real_BT if self.mask is None else real_BT & self.mask

    @property
    def losses(self) -> int:
        """The number of steps that have a loss, which is what the batch weighs beside others."""
        chosen = self.supervised
        return self.target.shape[0] * self.target.shape[1] if chosen is None else int(chosen.sum())


class Example(NamedTuple):
    """One sequence: inputs (T, I) and what belongs to each step, (T, ...)."""

    x: np.ndarray
    target: np.ndarray


def supervision(length: int, every: Supervise) -> np.ndarray:
    """Which of `length` steps have a loss, (T,) bool: every n-th, counted back from the last, which always has one."""
    chosen = np.zeros(length, dtype=bool)
    chosen[:: -max(1, length) if every == "last" else -int(every)] = True
    return chosen


def collate(examples: Sequence[Example], every: Supervise = 1) -> Batch:
    """Sequences as one padded batch."""
    lengths = [len(example.x) for example in examples]
    first, shape = examples[0], (len(examples), max(lengths))
    x = np.zeros((*shape, *first.x.shape[1:]), _wide(first.x))
    target = np.zeros((*shape, *first.target.shape[1:]), _wide(first.target))
    mask = None if every == 1 else np.zeros(shape, dtype=bool)
    for i, (example, n) in enumerate(zip(examples, lengths, strict=True)):
        x[i, :n], target[i, :n] = example
        if mask is not None:
            mask[i, :n] = supervision(n, every)
    return Batch(
        torch.from_numpy(x),
        torch.from_numpy(target),
        None if min(lengths) == max(lengths) else torch.tensor(lengths),
        None if mask is None else torch.from_numpy(mask),
    )


def by_length(examples: Sequence[Example], batch: int) -> Iterator[np.ndarray]:
    """Indices of all sequences in batches of like length, longest first: to predict with the least padding."""
    order = np.argsort([-len(example.x) for example in examples], kind="stable")
    yield from (order[i : i + batch] for i in range(0, len(order), batch))


def like_lengths(lengths: np.ndarray, batch: int, seed: int, epoch: int, start: int = 0) -> Iterator[np.ndarray]:
    """Indices of all sequences in batches of like length, from number `start` on: the order of an epoch.

    Args:
        lengths: (K, N), those of the last row count first.
    """
    random = _generator(seed, epoch)
    order = random.permutation(lengths.shape[1])
    at_once = SORTED_AT_ONCE * batch
    for i in range(0, len(order), at_once):
        part = order[i : i + at_once]
        order[i : i + at_once] = part[np.lexsort(lengths[:, part])]
    batches = [order[i : i + batch] for i in range(0, len(order), batch)]
    yield from (batches[k] for k in random.permutation(len(batches))[start:])


class Buckets:
    """Whole sequences in batches of like length.

    Args:
        examples: the sequences, none of them empty.
        batch: rows of a batch; the last of an epoch may have fewer.
        every: the steps that have a loss, see `supervision`.
    """

    def __init__(self, examples: Sequence[Example], batch: int, every: Supervise = 1) -> None:
        self.examples, self.batch, self.every = examples, batch, every
        self.lengths = np.array([len(example.x) for example in examples])

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch)

    def epoch(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on."""
        for rows in like_lengths(self.lengths[None], self.batch, seed, epoch, start):
            yield collate([self.examples[i] for i in rows], self.every)


class Lanes:
    """All sequences as one stream, cut into lanes that are read window by window with the state carried on.

    Every epoch puts the sequences in another order and begins the stream elsewhere, so that no step is always the
    first of a window. The state is reset where a sequence begins, and where a lane does.

    Args:
        examples: the sequences.
        lanes: rows of a batch; fewer where the stream is too short for each to have a window.
        window: k2, the steps that a gradient reaches back.
        stride: k1, the steps between two updates; 0 = as many as the window has. With k1 < k2 a batch is a whole
            window whose last k1 steps have a loss; with k1 > k2 it is k1 steps with the gradient cut every k2.
        every: the steps that have a loss, see `supervision`.

    (BPTT(k2; k1): Williams & Peng 1990, Neural Computation 2.)
    """

    carries = True  # the state goes from a batch to the next

    def __init__(
        self, examples: Sequence[Example], lanes: int, window: int, stride: int = 0, every: Supervise = 1
    ) -> None:
        lengths = np.array([len(example.x) for example in examples])
        total = int(lengths.sum())
        if not total:
            raise DataError("nothing to train on: every sequence is empty")
        self.lengths = lengths
        self.x = np.concatenate([example.x for example in examples])
        self.target = np.concatenate([example.target for example in examples])
        self.mask = None if every == 1 else np.concatenate([supervision(n, every) for n in lengths])
        self.begins = np.zeros(total, dtype=bool)
        self.starts: np.ndarray = np.cumsum(lengths) - lengths
        self.begins[self.starts[lengths > 0]] = True
        self.lanes = max(1, min(lanes, total // window))
        self.steps = total // self.lanes
        self.window, self.stride = window, stride or window

    def __len__(self) -> int:
        return 1 + -(-max(0, self.steps - max(self.window, self.stride)) // self.stride)

    def epoch(self, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on; what remains of the stream behind the last lane is left."""
        random, total = _generator(seed, epoch), len(self.x)
        order = random.permutation(len(self.lengths))
        before = np.cumsum(self.lengths[order]) - self.lengths[order]  # where each sequence begins in this epoch
        first = int(random.integers(total)) + np.arange(self.lanes)[:, None] * self.steps
        long, k1, k2 = max(self.window, self.stride), self.stride, self.window
        for j in range(start, len(self)):
            place = (first + np.arange(j * k1, min(j * k1 + long, self.steps))) % total
            which = np.searchsorted(before, place, side="right") - 1
            rows = self.starts[order[which]] + place - before[which]
            reset, mask = self.begins[rows], None if self.mask is None else self.mask[rows]
            if j == 0:
                reset[:, 0] = True
            elif k2 > k1:  # the steps before were learned from in the batches before
                mask = np.ones(rows.shape, dtype=bool) if mask is None else mask
                mask[:, : k2 - k1] = False
            yield Batch(
                torch.from_numpy(self.x[rows].astype(_wide(self.x))),
                torch.from_numpy(self.target[rows].astype(_wide(self.target))),
                mask=None if mask is None else torch.from_numpy(mask),
                reset=torch.from_numpy(reset) if reset.any() else None,
                advance=k1 if k1 < k2 else 0,
                reach=k2 if k2 < k1 else 0,
            )


def _wide(values: np.ndarray) -> type:
    """Torch's own kinds: whole numbers count, all others are single precision."""
    return np.int64 if values.dtype.kind in "iub" else np.float32


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, epoch]))
