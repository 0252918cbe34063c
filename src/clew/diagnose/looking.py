"""What a model that reads a source and then writes makes of it: where it looks, how far back it feels, what it holds.

blur     entropy of where it looks beside that of looking at all open places alike, the mean over what is written:
         0 for one place, 1 for everywhere; of several heads that of their mean
places   norm of d loss / d x at each place of the source, counted from its end, of what the first layer reads that
         reads numbers
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
from clew.diagnose.flow import norm, watched
from clew.models.attention import entropy
from clew.models.paired import Paired
from clew.models.pointer import PointerNet

ROWS = 64
AT_HAND = 2**17  # scores of places that are made at once: rows x places x units written


class Looked(NamedTuple):
    blur: float | None
    weights: list[list[float]]  # (T, S) of one example
    places: list[float]
    capacity: Capacity | None


def looked(model: Paired | PointerNet, examples: Sequence[PairExample]) -> Looked:
    """Of examples as the model is trained on them, at least one."""
    model.eval()
    largest = max(len(example.source) * (len(example.target) + 1) for example in examples[:ROWS])
    batch = collate_pairs(list(examples[: max(1, min(ROWS, AT_HAND // max(1, largest)))]))
    weights_BTS = _weights(model, batch)
    blur, shown = None, []
    if weights_BTS is not None:
        blur = _blur(weights_BTS, batch.supervised)
        shown = weights_BTS[0, : int(batch.lengths[0])]
        shown = shown[:, (shown > 0).any(0)].tolist()
    held = None
    if isinstance(model, Paired) and weights_BTS is None and len(batch.x) > 1:
        held = _capacity(model, batch)
    return Looked(blur, shown, of_places(model, batch), held)


def of_places(model: Paired | PointerNet, batch: PairBatch) -> list[float]:
    """The norm of the gradient at each place of the source, the last one first, root mean square over rows."""
    with watched(model.encoder, gradient=True) as found:
        loss = model.loss(batch) * len(batch.x)
    read = next((x for x in found.values() if x.requires_grad), None)
    if read is None:
        return []
    gradient_BSI = torch.autograd.grad(loss, read)[0]
    place_BS = batch.source_lengths[:, None] - 1 - torch.arange(gradient_BSI.shape[1], device=gradient_BSI.device)
    return [
        norm(gradient_BSI[place_BS == place][:, None])
        for place in range(gradient_BSI.shape[1])
        if (place_BS == place).any()
    ]


def _blur(weights_BTS: Tensor, real_BT: Tensor) -> float | None:
    """The mean over steps that have more than one place to look at: what is barred has a weight of 0."""
    open_BT = (weights_BTS > 0).sum(-1)
    chosen_BT = real_BT & (open_BT > 1)
    if not chosen_BT.any():
        return None
    return float((entropy(weights_BTS)[chosen_BT] / open_BT[chosen_BT].log()).mean())


@torch.no_grad()
def _weights(model: Paired | PointerNet, batch: PairBatch) -> Tensor | None:
    if isinstance(model, PointerNet):
        items = model.encode(batch.source, batch.source_lengths)
        return model(batch.x, None, items, lengths=batch.lengths)[0].exp()
    if model.decoder.attend is None:
        return None
    source = model.encode(batch.source, batch.source_lengths, batch.copied)
    return model.alignment(batch.x, source, batch.lengths)


def _capacity(model: Paired, batch: PairBatch) -> Capacity:
    source = model.encode(batch.source, batch.source_lengths, batch.copied)

    def said(summary_BD: Tensor) -> Tensor:
        logp_BTV = model(batch.x, None, source._replace(summary=summary_BD), lengths=batch.lengths)[0]
        said_BT = logp_BTV.gather(-1, batch.target[..., None])[..., 0]
        return torch.where(batch.supervised, said_BT, 0.0)

    return capacity(source.summary, said)
