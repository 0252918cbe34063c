"""Several heads over one body: multi-task learning (Caruana 1997, doi:10.1023/A:1007379606734).

loss = sum over heads of w_i L_i                                      fixed weights
     = sum over heads of exp(-s_i) L_i + s_i / 2                      learned ones, s_i = ln of a variance
                                      (Kendall, Gal & Cipolla 2018, arXiv:1705.07115, eq. 10; L_i halved for numbers)

A target that is NaN is missing: L_i is the mean over those that are there.

N steps, W numbers of an output, K numbers of a target
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from clew.data.batch import Batch


@dataclass(frozen=True)
class Reads:
    """Where a head finds what belongs to it.

    Args:
        outputs: which numbers of an output it reads.
        targets: which numbers of a target are its own.
        counts: whether these are one class, or else numbers.
    """

    outputs: slice
    targets: slice
    counts: bool


class SharedHead(nn.Module):
    """Heads that each read a part of the outputs; they predict side by side.

    Args:
        heads: at least one.
        reads: what each of them reads.
        weights: w of each; None for learned ones.
    """

    takes_missing = True  # a target that is NaN

    def __init__(
        self, heads: Sequence[nn.Module], reads: Sequence[Reads], weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.heads = cast("Sequence[Any]", nn.ModuleList(heads))
        self.reads, self.weights = tuple(reads), None if weights is None else tuple(weights)
        if weights is None:
            self.log_variance = nn.Parameter(torch.zeros(len(heads)))

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Args: outputs (N, W) and targets (N, K), NaN where missing."""
        return self._weighed([self._own(i, y, target) for i in range(len(self.heads))], y)

    def predict(self, y: Tensor) -> Tensor:
        """What the heads predict, one behind the other, (..., P)."""
        pairs = zip(self.heads, self.reads, strict=True)
        return torch.cat([head.predict(y[..., reads.outputs]) for head, reads in pairs], -1)

    def _own(self, i: int, y: Tensor, target: Tensor) -> Tensor | None:
        """The loss of one head over the steps whose target is there; None where there is none."""
        reads = self.reads[i]
        wanted = target[:, reads.targets]
        known = ~wanted.isnan().any(-1)
        if not bool(known.all()):
            y, wanted = y[known], wanted[known]
        if not len(wanted):
            return None
        return self.heads[i].loss(y[:, reads.outputs], wanted[:, 0].long() if reads.counts else wanted)

    def _weighed(self, losses: Sequence[Tensor | None], y: Tensor) -> Tensor:
        total = 0.0 * y.sum()  # where nothing is known there is still a gradient, of 0
        for i, loss in enumerate(losses):
            if loss is None:
                continue
            if self.weights is not None:
                total = total + self.weights[i] * loss
            else:
                s = self.log_variance[i]
                half = 1.0 if self.reads[i].counts else 0.5
                total = total + half * torch.exp(-s) * loss + s / 2
        return total


class SharedSequenceHead(SharedHead):
    """A `SharedHead` one or more of whose heads answer for all steps of a sequence together (see `ChainHead`)."""

    def sequence_loss(self, y_BTW: Tensor, batch: Batch) -> Tensor:
        """The weighed mean losses, from outputs of whole sequences."""
        chosen = batch.supervised
        if chosen is None:
            flat = y_BTW.flatten(0, 1), batch.target.flatten(0, 1)
        else:
            flat = y_BTW[chosen], batch.target[chosen]
        losses = []
        for i, (head, reads) in enumerate(zip(self.heads, self.reads, strict=True)):
            if not hasattr(head, "sequence_loss"):
                losses.append(self._own(i, *flat))
                continue
            target_BT = batch.target[..., reads.targets.start]
            known_B = ~target_BT[:, 0].isnan()
            lengths = None if batch.lengths is None else batch.lengths[known_B.to(batch.lengths.device)]
            part = Batch(batch.x[known_B], target_BT[known_B].nan_to_num().long(), lengths)
            y = y_BTW[known_B][..., reads.outputs]
            losses.append(head.sequence_loss(y, part) if len(y) else None)
        return self._weighed(losses, y_BTW)

    def predict_sequence(self, y_BTW: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What the heads predict, one behind the other, (B, T, P)."""
        found = []
        for head, reads in zip(self.heads, self.reads, strict=True):
            y = y_BTW[..., reads.outputs]
            found.append(head.predict_sequence(y, lengths) if hasattr(head, "predict_sequence") else head.predict(y))
        return torch.cat(found, -1)
