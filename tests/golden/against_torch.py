"""Torch's module beside ours, with the same weights, and what is compared of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from clew import nn

LAYERS = ("RNN", "GRU", "LSTM")
FORMS = ("batched", "unbatched", "one step", "empty batch", "packed", "packed unsorted", "packed equal")
LENGTHS = {"packed": [6, 4, 4, 1], "packed unsorted": [2, 6, 1, 5], "packed equal": [6, 6, 6, 6]}
F64 = torch.float64

each_layer = pytest.mark.parametrize("name", LAYERS)


def pair(name: str, *args, **kwargs) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Torch's module and ours with the same weights."""
    theirs, ours = getattr(torch.nn, name)(*args, **kwargs), getattr(nn, name)(*args, **kwargs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


def flat(value) -> list[Tensor]:
    if isinstance(value, PackedSequence):
        return [value.data]
    return [value] if isinstance(value, Tensor) else [leaf for part in value or () for leaf in flat(part)]


def like(module, h: Tensor, c: Tensor | None = None):
    """A state as this module takes it."""
    return (h, h if c is None else c) if isinstance(module, torch.nn.LSTM | torch.nn.LSTMCell) else h


def source(form: str, batch_first: bool, dtype: torch.dtype = F64) -> Tensor | PackedSequence:
    """Inputs of 3 features, at most 6 steps and 4 rows."""
    B, T = {"empty batch": (0, 6), "one step": (4, 1)}.get(form, (4, 6))
    x = torch.randn(*((B, T) if batch_first else (T, B)), 3, dtype=dtype)
    if form == "unbatched":
        return torch.randn(T, 3, dtype=dtype)
    if form in LENGTHS:
        return pack_padded_sequence(x, LENGTHS[form], batch_first, enforce_sorted=form != "packed unsorted")
    return x


def with_gradients(module, x, hx):
    """Outputs, and the gradients of all that went in, under a seed (of dropout)."""
    x = (
        x._replace(data=x.data.clone().requires_grad_())
        if isinstance(x, PackedSequence)
        else x.clone().requires_grad_()
    )
    hx = None if hx is None else like(module, *[leaf.clone().requires_grad_() for leaf in flat(hx)])
    torch.manual_seed(0)
    out = module(x, hx)
    weights = [torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y) for y in flat(out)]
    loss = torch.stack([(y * w).sum() for y, w in zip(flat(out), weights, strict=True)]).sum()
    return out, torch.autograd.grad(loss, [*flat(x), *flat(hx), *module.parameters()])


def assert_same(ours, theirs, tolerance: float = 1e-10) -> None:
    for a, b in zip(flat(ours), flat(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
