"""What is looked into of a trained model: its body, pieces of sequences as it reads them, and what it makes of them.

B rows, T steps, W width of an output, P numbers predicted
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clew.cells import Encoder, Recurrence
from clew.cells.classical import Classical
from clew.data.batch import Batch, Example, collate
from clew.data.pair_batch import PairExample, collate_pairs
from clew.diagnose.flow import Score, mixed
from clew.models import SequenceHead, Single
from clew.models.unaligned import Unaligned

ROWS, STEPS = 32, 256  # at most, of what is looked into
ENOUGH, SHORT = 8, 16  # rows and steps under which the one is not bought with the other


class Probe(NamedTuple):
    body: Recurrence | Encoder
    x: Tensor  # (B, T, I), as the body reads it
    loss: Score  # outputs (B, W) at the last step to the sum of the rows' losses
    predict: Callable[[Tensor], Tensor]  # outputs (B, W) to predictions (B, P), probabilities where they are of classes


def probe(model: nn.Module, examples: Sequence[Any], steps: int = STEPS, rows: int = ROWS) -> Probe | None:
    """Of a model with one body; None where there is nothing of two rows and two steps, or no such model.

    Args:
        examples: sequences as the model is trained on them.
        steps: the longest piece.
    """
    model = _without_masks(model)
    if isinstance(model, Single) and examples:
        return probe_of_batch(model, collate(pieces(examples, steps, rows)))
    if isinstance(model, Unaligned) and examples:
        x_BMH = _fronted(model, examples, steps, rows)
        if x_BMH is None:
            return None
        body = model.body
        return Probe(body, x_BMH, mixed(body.output_size), lambda y: model.readout(y).softmax(-1))
    return None


def _without_masks(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, with no masks of dropout, which are all ones there, in its states."""
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, Classical):
            module.recurrent_dropout = 0.0
    return model


def probe_of_batch(model: Single, batch: Batch) -> Probe | None:
    """Of rows that are all as long as the batch."""
    if min(batch.x.shape[:2]) < 2:
        return None
    return Probe(model.body, batch.x, _loss(model, batch), _predict(model))


def pieces(examples: Sequence[Example], steps: int = STEPS, rows: int = ROWS) -> list[Example]:
    """Pieces of one length from the beginnings of sequences, and, of long ones, from what follows."""
    lengths = sorted((len(example.x) for example in examples), reverse=True)
    T = min(steps, lengths[min(len(lengths) - 1, max(ENOUGH - 1, len(lengths) // 4))])
    while T > SHORT and sum(length // T for length in lengths) < ENOUGH:
        T = T * 3 // 4
    cut = [
        Example(example.x[t : t + T], example.target[t : t + T])
        for example in examples
        for t in range(0, len(example.x) - T + 1, max(1, T))
    ]
    return [cut[i * len(cut) // min(rows, len(cut))] for i in range(min(rows, len(cut)))]


def _loss(model: Single, batch: Batch) -> Score:
    head, target = model.head, batch.target[:, -1]
    if isinstance(head, SequenceHead):  # it answers for whole sequences, so that a step has no loss of its own
        return mixed(model.body.output_size)
    return lambda y_BW: head.loss(y_BW, target) * len(y_BW)


def _predict(model: Single) -> Callable[[Tensor], Tensor]:
    head = model.head
    if isinstance(head, SequenceHead):
        return lambda y_BW: y_BW

    def predict(y_BW: Tensor) -> Tensor:
        p_BP = head.predict(y_BW).flatten(1)
        logs = p_BP.exp().sum(-1)
        return p_BP.exp() if torch.allclose(logs, torch.ones_like(logs), atol=1e-3) else p_BP

    return predict


@torch.no_grad()
def _fronted(model: Unaligned, examples: Sequence[PairExample], steps: int, rows: int) -> Tensor | None:
    """What the body of a model with a front reads."""
    stride = model.front.stride
    sounds = [Example(example.source, example.source[:, :0]) for example in examples]
    found = pieces(sounds, steps * stride, rows)
    batch = collate_pairs([PairExample(piece.x, piece.x[:0, 0].astype(int)) for piece in found])
    x_BMH = model.front(batch.source, None, None)[0]
    return x_BMH if min(x_BMH.shape[:2]) >= 2 else None
