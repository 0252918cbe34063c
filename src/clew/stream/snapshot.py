"""One stream in a small file: its state, its latest prediction and what it has not read yet; no pickle, a checksum.

A snapshot is safe to load from strangers: what it may hold, and how large it may be, is known from the model before
anything of it is looked at, and it is refused unless it was made with the same weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from clew import tree
from clew.errors import ClewError, RunError
from clew.stream.engine import Carried, Engine
from clew.training.weights import pack, unpack_bytes

FORMAT = 1
ROOM = 1 << 20  # bytes that a header, a prediction and what is unread may have beside the state
KEYS = {"format", "model", "steps"}


def snapshot(engine: Engine, carried: Carried) -> bytes:
    """The bytes of a safetensors file."""
    tensors = tree.to_named(tree.rebuild(engine.initial, iter(map(torch.from_numpy, engine.leaves(carried)))))
    if carried.last is not None:
        tensors["last"] = torch.from_numpy(carried.last)
    if carried.unread is not None:
        tensors["unread"] = carried.unread
    return pack(tensors, {"format": FORMAT, "model": engine.fingerprint, "steps": carried.steps})


def restored(engine: Engine, saved: bytes, file: object = None) -> Carried:
    """The stream that was saved.

    Raises:
        RunError: it is damaged, too large, of another version, or of another model.
    """
    most = 2 * tree.size(engine.initial) + ROOM
    if len(saved) > most:
        raise RunError(f"is no snapshot of this model: {len(saved):,} bytes, where {most:,} are the most", file=file)
    tensors, meta = unpack_bytes(saved, checked=True, file=file, hint="take the snapshot again")
    if set(meta) != KEYS or type(meta["steps"]) is not int or meta["steps"] < 0:
        raise RunError("is no snapshot of a stream", file=file)
    if meta["format"] != FORMAT:
        raise RunError(f"has the format {meta['format']}, this version knows {FORMAT}", file=file)
    if meta["model"] != engine.fingerprint:
        hint = "restore it with the run that it was taken from"
        raise RunError("was taken from another model, or from other weights", file=file, hint=hint)
    last, unread = tensors.pop("last", None), tensors.pop("unread", None)
    fresh = engine.begin()
    try:
        state = tree.from_named(tensors, tree.map(lambda leaf: leaf.cpu(), engine.initial))
    except ClewError as error:
        raise RunError(error.what, file=file) from error
    leaves = [leaf.numpy() for leaf in tree.leaves(state)]
    fits = all(leaf.shape == own.shape for leaf, own in zip(leaves, fresh.leaves, strict=True))
    if not fits or any(_holds_nan(t) for t in (*tensors.values(), last, unread) if t is not None):
        raise RunError("holds a state that no stream of this model has", file=file)
    if fresh.last is not None and (last is None or last.shape != fresh.last.shape):
        raise RunError("lacks the prediction that the stream was at", file=file)
    if unread is not None and (unread.ndim != 1 or unread.dtype != torch.float32):
        raise RunError("holds something unread that is no sound", file=file)
    return Carried(leaves, None if last is None else last.numpy(), unread, meta["steps"])


def _holds_nan(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and bool(np.isnan(value.numpy()).any())
