"""Pairs as training batches of like length, in an order that is a pure function of seed and epoch.

B rows, S steps of a source, I numbers a step of it, T steps of a target, its end included
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clew.data.batch import like_lengths
from clew.data.vocabulary import END


class PairExample(NamedTuple):
    """A source (S, I) and the units of its target, (T - 1,): whole numbers, the end left out.

    `copied` (S,) is what stands at each place of the source as a unit of the target, for who may copy it.
    """

    source: np.ndarray
    target: np.ndarray
    copied: np.ndarray | None = None


class PairBatch(NamedTuple):
    """What a model with an encoder and a decoder learns from; what is padded is 0.

    Args:
        source: (B, S, I) units as a vocabulary encodes them, int64, or numbers.
        source_lengths: (B,) real steps of the source.
        x: (B, T, 1) int64, what the decoder reads: `END`, which is also where a text begins, then the target.
        target: (B, T) int64, what it should say to it: the target, then `END`.
        lengths: (B,) real steps of the target with its `END`, at least 1.
        copied: (B, S) int64, the source in units of the target; None where nothing may be copied.
    """

    source: Tensor
    source_lengths: Tensor
    x: Tensor
    target: Tensor
    lengths: Tensor
    copied: Tensor | None = None

    @property
    def supervised(self) -> Tensor:
        """(B, T) bool, the real steps of the target: those that have a loss."""
        return torch.arange(self.x.shape[1], device=self.x.device) < self.lengths[:, None]

    @property
    def losses(self) -> int:
        """The number of steps that have a loss, which is what the batch weighs beside others."""
        return int(self.lengths.sum())


def collate_pairs(examples: Sequence[PairExample]) -> PairBatch:
    """Pairs as one padded batch."""
    first, B = examples[0].source, len(examples)
    source_lengths = [len(example.source) for example in examples]
    lengths = [len(example.target) + 1 for example in examples]
    whole = first.dtype.kind in "iub"
    source = np.zeros((B, max(source_lengths), *first.shape[1:]), np.int64 if whole else np.float32)
    units = np.full((B, 1 + max(lengths)), END, np.int64)  # END, the target, END: read without the last or the first
    copied = None if examples[0].copied is None else np.zeros(source.shape[:2], np.int64)
    for i, example in enumerate(examples):
        if copied is not None and example.copied is not None:
            copied[i, : source_lengths[i]] = example.copied
        source[i, : source_lengths[i]] = example.source
        units[i, 1 : lengths[i]] = example.target
    x, target = torch.from_numpy(units[:, :-1]), torch.from_numpy(units[:, 1:])
    return PairBatch(
        torch.from_numpy(source),
        torch.tensor(source_lengths),
        x[..., None].contiguous(),
        target.contiguous(),
        torch.tensor(lengths),
        None if copied is None else torch.from_numpy(copied),
    )


class PairBuckets:
    """Pairs in batches whose sources are of like length, and among equal ones their targets.

    Args:
        examples: the pairs; a source or a target may be empty.
        batch: rows of a batch; the last of an epoch may have fewer.
    """

    def __init__(self, examples: Sequence[PairExample], batch: int) -> None:
        self.examples, self.batch = examples, batch
        self.lengths = np.array([(len(example.target), len(example.source)) for example in examples]).reshape(-1, 2).T

    def __len__(self) -> int:
        return -(-len(self.examples) // self.batch)

    def epoch(self, seed: int, epoch: int, start: int = 0) -> Iterator[PairBatch]:
        """The batches of an epoch from number `start` on."""
        for rows in like_lengths(self.lengths, self.batch, seed, epoch, start):
            yield collate_pairs([self.examples[i] for i in rows])
