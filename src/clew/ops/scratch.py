"""Memory that one pass leaves to the next. A training step asks for the same large buffers every time; fresh from the
system each of their pages costs a fault, which can take as long as the arithmetic."""

from __future__ import annotations

import math
import os
import threading

import torch
from torch import Tensor

MOST = 128 << 20  # bytes that lie ready
SMALL = 1 << 17  # bytes: below, the allocator's own store does

_ready: list[Tensor] = []  # the latest last
_lock = threading.Lock()


def _anew() -> None:
    """In a forked child: another thread of the parent's may have held the lock."""
    global _lock
    _lock = threading.Lock()
    _ready.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_anew)


def take(like: Tensor, *shape: int) -> Tensor:
    """A tensor of this shape that holds anything; of no other owner until it is given back, if it ever is."""
    n = math.prod(shape)
    size = n * like.element_size()
    # Under torch's deterministic mode fresh memory may be filled, so that reading it before writing shows.
    if size >= SMALL and not torch.are_deterministic_algorithms_enabled():
        with _lock:
            for i in range(len(_ready) - 1, -1, -1):
                if _ready[i].dtype == like.dtype and n <= _ready[i].numel() <= 2 * n:
                    return _ready.pop(i)[:n].view(shape)
    return like.new_empty(shape)


def give(*tensors: Tensor | None) -> None:
    """Takes back what nobody reads any more."""
    with _lock:
        for t in tensors:
            if t is not None and t.numel() * t.element_size() >= SMALL:
                with torch.inference_mode(False):  # else it may not be changed outside that mode
                    whole = torch.empty(0, dtype=t.dtype).set_(t.untyped_storage())
                _ready.append(whole)
        held = 0
        for i in range(len(_ready) - 1, -1, -1):
            held += _ready[i].numel() * _ready[i].element_size()
            if held > MOST:
                del _ready[: i + 1]
                break
