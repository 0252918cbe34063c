"""One stream in a small file: its state, its latest prediction and what it has not read yet; no pickle, a checksum.

A snapshot is safe to load from strangers: what it may hold, and how large it may be, is known from the model before
anything of it is looked at, and it is refused unless it was made with the same weights.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clew import tree
from clew.data.audio import LogMel
from clew.data.sounds import MOST
from clew.errors import ClewError, RunError
from clew.stream.engine import Carried, Engine, sound_of
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
    whole = set(meta) == KEYS and type(meta["steps"]) is int and type(meta["format"]) is int
    if not whole or not 0 <= meta["steps"] < 1 << 63:
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
    if not all(_fits(leaf, own) for leaf, own in zip(leaves, fresh.leaves, strict=True)):
        raise RunError("holds a state that no stream of this model has", file=file)
    if last is None and fresh.last is not None:
        raise RunError("lacks the prediction that the stream was at", file=file)
    if last is not None and (last.shape != engine.prediction or last.dtype != torch.float32 or last.isnan().any()):
        raise RunError("holds a prediction that this model does not make", file=file)
    if unread is not None and not _is_sound(unread, sound_of(engine.trained)):
        raise RunError("holds something unread that is no sound", file=file)
    return Carried(leaves, None if last is None else last.numpy(), unread, meta["steps"])


def _fits(leaf: np.ndarray, own: np.ndarray) -> bool:
    """Whether a leaf can be one of a stream: infinite only where the state before the first step is."""
    if leaf.shape != own.shape:
        return False
    return leaf.dtype.kind != "f" or bool(np.isfinite(leaf).all() or (np.isinf(own).any() and not np.isnan(leaf).any()))


def _is_sound(unread: Tensor, front: LogMel | None) -> bool:
    """Whether it can be what frames have left."""
    if front is None or unread.ndim != 1 or unread.dtype != torch.float32:
        return False
    short = front.window_size - front.hop_size <= len(unread) < front.window_size
    return short and bool((unread.abs() <= MOST).all())
