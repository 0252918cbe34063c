"""What a model that reads a source and then writes makes of it: where it looks, how far back it feels, what it holds.

sharp    entropy of where it looks beside ln S, the mean over what is written: 0 for one place, 1 for everywhere
places   norm of d loss / d x at each place of the source, counted from its end
capacity of the context vector, where there is no attention (see `capacity`)

B rows, S steps of the source, T of the target
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clew.data.pair_batch import PairBatch, PairExample, collate_pairs
from clew.diagnose.capacity import Capacity, capacity
from clew.diagnose.flow import watched
from clew.models.attention import entropy_ratio
from clew.models.paired import Paired
from clew.models.pointer import PointerNet

ROWS = 64


class Looked(NamedTuple):
    sharp: float | None
    weights: list[list[float]]  # (T, S) of one example
    places: list[float]
    capacity: Capacity | None


def looked(model: Paired | PointerNet, examples: Sequence[PairExample]) -> Looked:
    """Of examples as the model is trained on them, at least one."""
    model.eval()
    batch = collate_pairs(list(examples[:ROWS]))
    weights_BTS = _weights(model, batch)
    sharp, shown = None, []
    if weights_BTS is not None:
        real_BS = _real(batch.source_lengths, weights_BTS.shape[2])
        sharp = float(entropy_ratio(weights_BTS, real_BS)[batch.supervised].mean())
        row = weights_BTS[0, : int(batch.lengths[0])]
        shown = row[:, : int(real_BS[0].sum())].tolist()
    held = _capacity(model, batch) if isinstance(model, Paired) and weights_BTS is None else None
    return Looked(sharp, shown, of_places(model, batch), held)


def of_places(model: Paired | PointerNet, batch: PairBatch) -> list[float]:
    """The norm of the gradient at each place of the source, the last one first, root mean square over rows."""
    with watched(model.encoder, gradient=True) as found:
        loss = model.loss(batch) * len(batch.x)
    read = next((x for x in found.values() if x.requires_grad), None)
    if read is None:
        return []
    squares_BS = torch.autograd.grad(loss, read)[0].flatten(2).square().sum(-1)
    S = squares_BS.shape[1]
    place_BS = batch.source_lengths[:, None] - 1 - torch.arange(S)
    real_BS = place_BS >= 0
    sums, counts = squares_BS.new_zeros(S), squares_BS.new_zeros(S)
    sums.index_add_(0, place_BS[real_BS], squares_BS[real_BS])
    counts.index_add_(0, place_BS[real_BS], torch.ones_like(squares_BS[real_BS]))
    return (sums / counts.clamp(min=1)).sqrt().tolist()


@torch.no_grad()
def _weights(model: Paired | PointerNet, batch: PairBatch) -> Tensor | None:
    context = model.encode(batch.source, batch.source_lengths, *([batch.copied] if isinstance(model, Paired) else []))
    if isinstance(model, PointerNet):
        return model(batch.x, None, context, lengths=batch.lengths)[0].exp()
    return None if model.decoder.attend is None else model.alignment(batch.x, context, batch.lengths)


def _capacity(model: Paired, batch: PairBatch) -> Capacity:
    source = model.encode(batch.source, batch.source_lengths, batch.copied)

    def nats(summary_BD: Tensor) -> float:
        logp_BTV = model(batch.x, None, source._replace(summary=summary_BD), lengths=batch.lengths)[0]
        said_BT = logp_BTV.gather(-1, batch.target[..., None])[..., 0]
        return -float(torch.where(batch.supervised, said_BT, 0.0).sum()) / len(batch.x)

    return capacity(source.summary, nats)


def _real(lengths_B: Tensor, places: int) -> Tensor:
    """Which places are real, (B, S); a pointer's have the end before them."""
    behind = places - int(lengths_B.max())
    return torch.arange(places) < lengths_B[:, None] + behind
