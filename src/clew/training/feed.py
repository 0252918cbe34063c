"""What the loop asks of training data, and how it reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch


class Batches(Protocol):
    """Training data in a fixed number of batches per epoch; a batch is a tensor, or a (named) tuple or dict of them."""

    def __len__(self) -> int: ...

    def epoch(self, seed: int, epoch: int, start: int = 0) -> Iterator[Any]:
        """The batches of one epoch from number `start` on: a pure function, without torch's global random state."""
        ...


def endless(batches: Batches, seed: int, step: int) -> Iterator[Any]:
    """All batches from an update on; epoch and position are a function of the step, so there is nothing to save."""
    epoch, start = divmod(step, len(batches))
    while True:
        given = 0
        for batch in batches.epoch(seed, epoch, start):
            given += 1
            yield batch
        assert given == len(batches) - start, f"epoch {epoch} gave {given} batches from {start} on, not {len(batches)}"
        epoch, start = epoch + 1, 0


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch on the model's device: a tensor, a (named) tuple, list or dict of them, or what has its own `to`."""
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: to_device(part, device) for name, part in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [to_device(part, device) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch
