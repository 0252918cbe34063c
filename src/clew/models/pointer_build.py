"""A pointer network from the names of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from clew.cells import Pointwise, Recurrence
from clew.models.attention import Attend
from clew.models.build import body
from clew.models.decoder import Decoder
from clew.models.paired import summary_size
from clew.models.pointer import PointerNet, Reads
from clew.models.pointer_decoder import Pointer
from clew.models.scores import make_score


def pointer_net(
    cell: str,
    items: int,
    width: int,
    layers: int = 1,
    *,
    bidirectional: bool = True,
    decoder: str = "",
    score: str = "additive",
    glimpse: str = "",
    reads: Reads = "encoding",
    clip: float = 0.0,
    no_repeat: bool = True,
    least: int = 0,
    whole: bool = False,
    front: Recurrence | None = None,
    cells: Mapping[str, type[Recurrence]] | None = None,
    **stack: Any,
) -> PointerNet:
    """A pointer network whose encoder and decoder are stacks of the same form.

    Args:
        cell: see `body`; with `decoder` the encoder's alone.
        items: numbers of an item.
        glimpse: the score by which the decoder looks before it points; "" for none.
        reads: see `PointerNet`; the others see `Pointer`.
        front: what stands below the encoder, from items to what its first layer reads.
        stack: `dropout`, `residual`, `norm`, `mlp` and `options` of both stacks.

    Raises:
        ConfigError: an unknown cell, option or score.
        ShapeError: a score that cannot point.
    """
    read = front.output_size if front else items
    encoder = body(cell, read, width, layers, bidirectional=bidirectional, front=front, cells=cells, **stack)
    encoded = encoder.output_size
    takes = encoded if reads == "encoding" else items
    inner = body(decoder or cell, takes, width, layers, cells=cells, **stack)
    query, attend = inner.output_size, None
    if glimpse:
        attend = Attend(make_score(glimpse, query, encoded), query, encoded, query)
    outer = Decoder(Pointwise(nn.Identity(), takes), inner, summary_size(encoder), attend=attend)
    point = make_score(score, outer.output_size, encoded)
    return PointerNet(encoder, Pointer(outer, point, clip=clip, no_repeat=no_repeat, least=least, whole=whole), reads)
