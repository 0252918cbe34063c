"""Attention against torch's scaled_dot_product_attention with a mask for the window, whole and step by step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clew.cells.attention import QUERIES, Attention, AttentionState
from clew.errors import ClewError

B, T, I, H = 2, 2 * QUERIES + 21, 5, 12
F64 = torch.float64
OPTIONS = [
    {"heads": 2, "window": 1},
    {"heads": 3, "window": 7, "bias": True},
    {"heads": 2, "window": QUERIES, "rotary": False},
    {"heads": 1, "window": 100, "base": 50.0},
    {"heads": 4, "window": 9},  # heads of 3 units, one of them not turned
    {"heads": 2},
]
each = pytest.mark.parametrize("options", OPTIONS, ids=str)


def build(options: dict, dtype: torch.dtype = F64) -> Attention:
    cell = Attention(I, H, **options).to(dtype)
    with torch.no_grad():
        for p in cell.parameters():
            p += 0.3 * torch.randn_like(p)  # far from even weights
    return cell


def rotated(x_BHTK: Tensor, position_BT: Tensor, base: float) -> Tensor:
    """RoFormer's form: neighbouring units as complex numbers, times exp(i m base^(-2 j / K))."""
    K = x_BHTK.shape[-1]
    n = K // 2
    z = torch.view_as_complex(x_BHTK[..., : 2 * n].unflatten(-1, (n, 2)).contiguous())
    angle = position_BT[:, None, :, None] * base ** (-2 * torch.arange(n, dtype=F64) / K)
    turned = torch.view_as_real(z * torch.polar(torch.ones_like(angle), angle)).flatten(-2)
    return torch.cat([turned, x_BHTK[..., 2 * n :]], -1)


def by_torch(cell: Attention, x: Tensor, began_BT: Tensor, base: float) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, and the keys and values (B, T, H, K) that the cache should hold; `began` is where each piece begins."""
    t = torch.arange(x.shape[1])
    q, k, v = (each.unflatten(-1, (cell.heads, -1)).transpose(1, 2) for each in cell.to_qkv(x).chunk(3, -1))
    if cell.rotary:
        q, k = (rotated(each, t - began_BT, base) for each in (q, k))
    near = (t <= t[:, None]) & (t > t[:, None] - cell.window)
    mask = near & (t >= began_BT[:, :, None])
    o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
    return cell.out(o.transpose(1, 2).flatten(2)), k.transpose(1, 2), v.transpose(1, 2)


def last(window: int, seen_THK: Tensor, steps: int) -> Tensor:
    """The last `window` of the first `steps`, zeros before the first."""
    seen = torch.cat([seen_THK.new_zeros(window, *seen_THK.shape[1:]), seen_THK[:steps]])
    return seen[len(seen) - window :]


def agree(got: tuple, wanted: tuple, given: list[Tensor], theirs: list[Tensor]) -> None:
    losses = [torch.zeros((), dtype=F64), torch.zeros((), dtype=F64)]
    for mine, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=1e-12)
        mix = torch.randn_like(other)
        losses = [loss + (each * mix).sum() for loss, each in zip(losses, (mine, other), strict=True)]
    for a, b in zip(torch.autograd.grad(losses[0], given), torch.autograd.grad(losses[1], theirs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


@each
def test_sequence(options: dict) -> None:
    """Outputs, cache, and gradients with respect to the input and all weights."""
    cell = build(options)
    x = torch.randn(B, T, I, dtype=F64)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    got, state = cell(a)
    y, k, v = by_torch(cell, b, torch.zeros(B, T, dtype=torch.int64), options.get("base", 1e4))
    cache = [torch.stack([last(cell.window, row, T) for row in each]) for each in (k, v)]
    agree((got, *state[:2]), (y, *cache), [a, *cell.parameters()], [b, *cell.parameters()])
    assert state.position.tolist() == [T] * B


@each
def test_pieces_and_padding(options: dict) -> None:
    """With resets and lengths each piece sees itself alone; NaN in the padding and before a reset stays there."""
    cell = build(options)
    x = torch.randn(B, T, I, dtype=F64)
    reset = torch.zeros(B, T, dtype=torch.bool)
    reset[0, 3] = reset[0, 90] = reset[1, 40] = reset[1, T - 2] = True
    lengths = torch.tensor([T - 4, 50])
    t = torch.arange(T)
    began = torch.where(reset, t, 0).cummax(1).values
    real = t < lengths[:, None]
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    got, state = cell(torch.where(real[:, :, None], a, torch.nan), lengths=lengths, reset=reset)
    y, k, v = by_torch(cell, torch.where(real[:, :, None], b, 0.0), began, options.get("base", 1e4))
    first = [int(began[row, n - 1]) for row, n in enumerate(lengths.tolist())]
    ends = [(begin, n - begin) for begin, n in zip(first, lengths.tolist(), strict=True)]
    cache = [
        torch.stack([last(cell.window, row[begin:], n) for row, (begin, n) in zip(each, ends, strict=True)])
        for each in (k, v)
    ]
    wanted = torch.where(real[:, :, None], y, 0.0)
    agree((got, *state[:2]), (wanted, *cache), [a, *cell.parameters()], [b, *cell.parameters()])
    assert state.position.tolist() == [n for _, n in ends]


@each
def test_stream(options: dict) -> None:
    """Step by step, and in chunks of uneven length: torch's outputs, and the cache at every step."""
    cell = build(options).requires_grad_(False)
    x = torch.randn(B, T, I, dtype=F64)
    y, k, v = by_torch(cell, x, torch.zeros(B, T, dtype=torch.int64), options.get("base", 1e4))
    state = cell.init_state(B)
    for t in range(T):
        got, state = cell.step(x[:, t], state)
        torch.testing.assert_close(got, y[:, t], atol=1e-12, rtol=1e-12)
        for mine, seen in ((state.keys, k), (state.values, v)):
            wanted = torch.stack([last(cell.window, row, t + 1) for row in seen])
            torch.testing.assert_close(mine, wanted, atol=1e-13, rtol=1e-13)
    assert state.position.tolist() == [T] * B
    pieces, state = [], cell.init_state(B)
    for chunk in x.split([1, 5, QUERIES, 0, T - QUERIES - 6], 1):
        got, state = cell(chunk, state)
        pieces.append(got)
    torch.testing.assert_close(torch.cat(pieces, 1), y, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("position", [10**6, 10**12, 2**62])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-13), (torch.float32, 2e-6)])
def test_no_position_is_too_large(position: int, dtype: torch.dtype, tolerance: float) -> None:
    """Only the time between two steps counts, so a stream answers alike at its beginning and years later."""
    cell = build({"heads": 2, "window": 30}, dtype).requires_grad_(False)
    x = torch.randn(B, 60, I, dtype=dtype)
    early, state = cell(x)
    # The same steps, where the count goes on from a high number with a cache that holds nothing that is in use.
    begun = cell.init_state(B)._replace(position=torch.full((B,), position))
    late, after = cell(x, begun)
    torch.testing.assert_close(late[:, 29:], early[:, 29:], atol=tolerance, rtol=tolerance)
    assert after.position.tolist() == [position + 60] * B
    assert not torch.allclose(after.keys, state.keys, atol=1e-2), "the keys are turned by their position"


def poisoned(cell: Attention, place: str) -> tuple[Tensor, AttentionState, Tensor | None, slice]:
    """x, state and reset with NaN somewhere in row 0, and the steps that do not see it."""
    x, state, reset = torch.randn(B, 12, I, dtype=F64), cell.init_state(B), None
    _, state = cell(torch.randn(B, 2, I, dtype=F64), state)
    keys, values = (leaf.detach().clone() for leaf in state[:2])
    if place == "unused slots":
        keys[0, :-2] = values[0, :-2] = torch.nan
        return x, AttentionState(keys, values, state.position), reset, slice(0, 12)
    if place == "a state before a reset":
        keys[:] = values[:] = torch.nan
        reset = torch.zeros(B, 12, dtype=torch.bool)
        reset[:, 0] = True
        return x, AttentionState(keys, values, state.position), reset, slice(0, 12)
    if place == "a state that is left behind":
        keys[0, -1] = torch.nan
        values[0, -2] = torch.inf
        return x, AttentionState(keys, values, state.position), reset, slice(cell.window - 1, 12)
    x[0, 6] = torch.nan
    return x, AttentionState(keys, values, state.position), reset, slice(0, 6)


@pytest.mark.parametrize(
    "place", ["unused slots", "a state before a reset", "a state that is left behind", "a later step"]
)
def test_nan_is_seen_by_those_who_look(place: str) -> None:
    """Steps that do not see it answer as if it were not there, and have the same gradients; those that do give NaN."""
    cell = build({"heads": 2, "window": 5})
    x, state, reset, clean = poisoned(cell, place)
    healthy = AttentionState(*(leaf.nan_to_num(0.0, 0.0) for leaf in state[:2]), state.position)
    healthy_x = x.nan_to_num(0.0)
    results = []
    for a, s in ((x.clone().requires_grad_(), state), (healthy_x.requires_grad_(), healthy)):
        y, _ = cell(a, s, reset=reset)
        shown = torch.autograd.grad(y[:, clean].square().sum(), a)[0]
        results.append((y[:, clean].detach(), shown[:, :6]))
        blind = torch.ones(12, dtype=torch.bool)
        blind[clean] = False
        if s is state and place != "a later step":
            assert y[0, blind].isnan().all()
        if s is state and place == "a later step":
            assert y[0, 6:11].isnan().all()
            assert y[0, 11].isfinite().all()
        if s is state and not x.isnan().any():
            y, _ = cell(a.detach(), s, reset=reset)
            gradients = torch.autograd.grad(y[:, clean].square().sum(), list(cell.parameters()))
            assert all(g.isfinite().all() for g in gradients)
    torch.testing.assert_close(results[0], results[1], atol=1e-12, rtol=1e-12)


def test_memory_grows_with_the_window() -> None:
    """Nothing that is kept for the gradient is as large as steps times steps."""
    cell, long = build({"heads": 2, "window": 16}), 1024
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        cell(torch.randn(1, long, I, dtype=F64, requires_grad=True))
    assert max(sizes) < long * 4 * H, max(sizes)
    assert sum(sizes) < long * long


@pytest.mark.parametrize("options", [{"heads": 5}, {"window": 0}, {"base": 0.5}], ids=str)
def test_mistakes(options: dict) -> None:
    with pytest.raises(ClewError):
        Attention(I, H, **options)
