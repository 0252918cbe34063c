"""When a number is no longer finite: where it began, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from clew.errors import TrainingError


def non_finite(step: int, model: nn.Module, batch: Any, loss: float, kept: str) -> TrainingError:
    """The error that names where the NaN or infinity of this step comes from.

    Args:
        step: the step that failed, from 1.
        model: with the gradients of the failed step, before clipping and before the update.
        loss: the value of the loss.
        kept: where the last good weights are, for the hint.
    """
    slower = "lower the learning rate (train.lr) or the clipping (train.clip)"
    if found := _first(model.named_parameters()):
        cause, mend = f"the weights hold {found}", slower
    elif found := _first(_given(model, batch)):
        cause, mend = f"the data hold {found}", "fill or drop these values in the source"
    elif found := _first(model.named_buffers()):
        cause, mend = f"the model's buffers hold {found}", slower
    elif not math.isfinite(loss):
        cause = f"the loss is {loss}, though data and weights are finite"
        mend = f"look for a division, log or exp in the loss that can overflow, or {slower}"
    else:
        cause, mend = f"the loss is finite ({loss:.4g}), but {_gradient(model)}", slower
    return TrainingError(f"training stopped at step {step}: {cause}", hint=f"{mend}; {kept}")


def weights_are_finite(model: nn.Module) -> bool:
    """Parameters and buffers; asked before they are saved or called the best."""
    return _first(model.state_dict().items()) is None


def parts(batch: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a batch with its place: the field of a NamedTuple, the key of a dict, else the index."""
    if isinstance(batch, Tensor):
        yield name or "the batch", batch
    elif isinstance(batch, dict):
        for key, part in batch.items():
            yield from parts(part, f"{name}.{key}" if name else str(key))
    elif isinstance(batch, tuple | list):
        for key, part in zip(getattr(batch, "_fields", range(len(batch))), batch, strict=True):
            yield from parts(part, f"{name}.{key}" if name else str(key))


def _given(model: nn.Module, batch: Any) -> Iterator[tuple[str, Tensor]]:
    """What may not hold a NaN of a batch: a target may, where the head takes it for one that is missing."""
    missing = getattr(getattr(model, "head", None), "takes_missing", False)
    for name, tensor in parts(batch):
        yield name, tensor.nan_to_num(0.0, math.inf, -math.inf) if missing and name == "target" else tensor


def _first(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The first tensor that holds NaN or infinity, in words, or None."""
    for name, tensor in named:
        finite = torch.isfinite(tensor.detach())
        if not bool(finite.all()):
            place = (~finite).nonzero()[0].tolist()
            value = tensor[tuple(place)].item()
            return f"{value} in '{name}'" + (f" at index {place}" if place else "")
    return None


def _gradient(model: nn.Module) -> str:
    gradients = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    if found := _first(gradients):
        return f"the gradients hold {found}"
    largest = max(gradients, key=lambda pair: float(pair[1].abs().max()) if pair[1].numel() else 0.0)[0]
    return f"the norm of the gradients overflows; the largest is in '{largest}'"
