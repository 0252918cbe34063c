"""What a decoder reads beside its input: an encoded source.

B batch, S steps of the source, M width of what was encoded, A of keys, C of the summary
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from clew.errors import ShapeError
from clew.tree import State


class Source(NamedTuple):
    """What a decoder reads of a source: its context."""

    values: Tensor  # (B, S, M) what was encoded at each step
    keys: Tensor  # (B, S, A) what scores are made with; equal to values where there is no attention
    real: Tensor  # (B, S) bool, the steps that are not padding
    summary: Tensor  # (B, C) what the encoder ended with
    units: Tensor  # (B, S) int64, what stood there, as a unit of the target
    extra: Tensor | tuple[()] = ()  # (B,) int64, alike in all rows: how many units stood somewhere and are not known


def read_source(context: State | None) -> Source:
    """The context of a decoder.

    Raises:
        ShapeError: there is none.
    """
    if not isinstance(context, Source):
        raise ShapeError(
            "this decoder reads a source, and was given none", hint="give context=model.encode(source, lengths)"
        )
    return context
