"""Decoding: from predictions, one step at a time, to sequences."""

from clew.decode.sampling import choose, sample

__all__ = ["choose", "sample"]
