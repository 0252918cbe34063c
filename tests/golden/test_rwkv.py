"""RWKV-7 and RWKV-6 against the papers' equations, head by head and step by step, and against flash-linear-attention's
plain recurrences where it is installed."""

from __future__ import annotations

import importlib.util
import math
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clew import ops
from clew.cells.rwkv6 import RWKV6, read_then_write
from clew.cells.rwkv7 import RWKV7

B, T, I, HIDDEN, H = 2, 9, 5, 12, 3
N = HIDDEN // H
EXACT = {"rtol": 0.0, "atol": 1e-11}
Cell = RWKV7 | RWKV6


def made(kind: type[Cell], **options: int) -> Cell:
    """A cell with every parameter away from what it begins with, which is often 0."""
    cell = kind(I, HIDDEN, heads=H, **options).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return cell


def rwkv7_by_hand(cell: RWKV7, x_t: Tensor, before: Tensor, S: list[Tensor], eps: float) -> tuple[Tensor, list[Tensor]]:
    """One step of one row; S has values in rows and keys in columns, as the paper writes it.

    `eps` stands under the root of the length of the key that is removed: 0 in the paper, 1e-12 in ours.
    """
    mixed = [x_t * (1 - mu) + before * mu for mu in cell.mix]
    x_r, x_w, x_k, x_v, x_a, x_g = mixed
    r, k, v = cell.to_r.weight @ x_r, cell.to_k.weight @ x_k, cell.to_v.weight @ x_v
    d = cell.to_w.up.bias + cell.to_w.up.weight @ torch.tanh(cell.to_w.down.weight @ x_w)
    w = torch.exp(-torch.sigmoid(d) / math.sqrt(math.e))
    a = torch.sigmoid(cell.to_a.up.bias + cell.to_a.up.weight @ (cell.to_a.down.weight @ x_a))
    g = cell.to_g.up.weight @ torch.sigmoid(cell.to_g.down.weight @ x_g)
    kappa, k = k * cell.removed, k + k * (a - 1) * cell.rate
    after, heads = [], []
    for h in range(H):
        part = slice(h * N, h * N + N)
        kappa_h = kappa[part] / torch.sqrt(kappa[part] @ kappa[part] + eps)
        transition = torch.diag(w[part]) - torch.outer(kappa_h, a[part] * kappa_h)
        after.append(S[h] @ transition + torch.outer(v[part], k[part]))
        read = after[h] @ r[part]
        normalised = (read - read.mean()) / torch.sqrt(read.var(unbiased=False) + 64e-5)
        bonus = (r[part] * cell.bonus[h] * k[part]).sum() * v[part]
        heads.append(normalised * cell.norm.weight[h] + cell.norm.bias[h] + bonus)
    return cell.out.weight @ (g * torch.cat(heads)), after


def rwkv6_by_hand(cell: RWKV6, x_t: Tensor, before: Tensor, S: list[Tensor], eps: float) -> tuple[Tensor, list[Tensor]]:
    """One step of one row; S has values in rows and keys in columns."""
    rank = cell.mix_up.shape[1]
    low = torch.tanh(cell.to_mix.weight @ (x_t + (before - x_t) * cell.mix_x))
    mixed = []
    for j in range(5):
        amount = cell.mix[j] + low[j * rank : j * rank + rank] @ cell.mix_up[j]
        mixed.append(x_t + (before - x_t) * amount)
    x_w, x_k, x_v, x_r, x_g = mixed
    r, k, v = cell.to_r.weight @ x_r, cell.to_k.weight @ x_k, cell.to_v.weight @ x_v
    d = cell.to_w.up.bias + cell.to_w.up.weight @ torch.tanh(cell.to_w.down.weight @ x_w)
    w, gate = torch.exp(-torch.exp(d)), cell.to_gate.weight @ x_g
    after, heads = [], []
    for h in range(H):
        part = slice(h * N, h * N + N)
        kv = torch.outer(v[part], k[part])
        read = (S[h] + kv * cell.bonus[h]) @ r[part]
        after.append(S[h] * w[part] + kv)
        normalised = (read - read.mean()) / torch.sqrt(read.var(unbiased=False) + 64e-5)
        heads.append(normalised * cell.norm.weight[h] + cell.norm.bias[h])
    return cell.out.weight @ (gate * torch.sigmoid(gate) * torch.cat(heads)), after


def by_hand(cell: Cell, x: Tensor, eps: float = 1e-12) -> tuple[Tensor, Tensor]:
    """Outputs (B, T, HIDDEN), and the matrices after each step (B, T, H, K, V)."""
    step = rwkv7_by_hand if isinstance(cell, RWKV7) else rwkv6_by_hand
    ys, states = [], []
    for row in x:
        before, S = torch.zeros_like(row[0]), [row.new_zeros(N, N) for _ in range(H)]
        for x_t in row:
            y, S = step(cell, x_t, before, S, eps)
            before = x_t
            ys.append(y)
            states.append(torch.stack(S).mT)
    return torch.stack(ys).view(B, T, -1), torch.stack(states).view(B, T, H, N, N)


CELLS = [(RWKV7, {}), (RWKV7, {"rank": 3}), (RWKV6, {}), (RWKV6, {"mix_rank": 2, "decay_rank": 3})]


@pytest.mark.parametrize(("kind", "options"), CELLS)
def test_the_papers_equations(kind: type[Cell], options: dict) -> None:
    """Outputs, the last state, and the gradients of both by the input and every parameter."""
    cell = made(kind, **options)
    x = torch.randn(B, T, I, dtype=torch.float64, requires_grad=True)
    (y, state), (y_hand, S_hand) = cell(x), by_hand(cell, x)
    torch.testing.assert_close([y, state.S, state.past[:, 0]], [y_hand, S_hand[:, -1], x[:, -1]], **EXACT)
    weight, weight_S = torch.randn_like(y), torch.randn_like(state.S)
    wanted = [x, *cell.parameters()]
    gradients = torch.autograd.grad((y * weight).sum() + (state.S * weight_S).sum(), wanted)
    by_theirs = torch.autograd.grad((y_hand * weight).sum() + (S_hand[:, -1] * weight_S).sum(), wanted)
    torch.testing.assert_close(gradients, by_theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("kind", "options"), CELLS)
def test_streams_as_the_papers_equations(kind: type[Cell], options: dict) -> None:
    cell = made(kind, **options)
    x = torch.randn(B, T, I, dtype=torch.float64)
    y_hand, S_hand = by_hand(cell, x)
    y_paper, S_paper = by_hand(cell, x, eps=0.0)
    state = cell.init_state(B)
    for t in range(T):
        y, state = cell.step(x[:, t], state)
        torch.testing.assert_close([y, state.S], [y_hand[:, t], S_hand[:, t]], **EXACT)
        torch.testing.assert_close([y, state.S], [y_paper[:, t], S_paper[:, t]], rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("kind", [RWKV7, RWKV6])
def test_begins_as_the_authors_do(kind: type[Cell]) -> None:
    """Decays and mixes of a first layer, in the authors' loops over channels."""
    cell, C = kind(10, 128, heads=2), 128
    decays = cell.to_w.up.bias.tolist()
    for n in range(C):
        place = n / (C - 1)
        zigzag = ((n % 64) - 31.5) / 31.5
        wanted = -6 + 6 * place + 0.5 + 2.5 * zigzag * abs(zigzag) if kind is RWKV7 else -6 + 5 * place**0.7
        assert decays[n] == pytest.approx(wanted, abs=1e-5)
    powers = (0.2, 0.9, 0.7, 0.7, 0.9, 0.2) if kind is RWKV7 else (1.0, 1.0, 1.0, 0.5, 0.5)
    for mix, power in zip(cell.mix.tolist(), powers, strict=True):
        assert mix == pytest.approx([1 - (n / 10) ** power for n in range(10)], abs=1e-6)


def test_an_input_of_zero_has_derivatives() -> None:
    """The key that is removed has no direction then."""
    cell = made(RWKV7)
    x = torch.zeros(B, T, I, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(cell(x)[0].square().sum(), x)
    assert bool(first.isfinite().all())
    with ops.reference():
        (first,) = torch.autograd.grad(cell(x)[0].square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
    assert bool(second.isfinite().all())


def plain(path: str) -> ModuleType:
    """A file of flash-linear-attention that needs torch alone; the package itself cannot be imported without a GPU."""
    package = importlib.util.find_spec("fla")
    if package is None or not package.submodule_search_locations or importlib.util.find_spec("einops") is None:
        pytest.skip("flash-linear-attention (fla-core) is not installed")
    spec = importlib.util.spec_from_file_location("plain", f"{package.submodule_search_locations[0]}/ops/{path}")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_recurrence_of_rwkv7_is_flas() -> None:
    """Their plain loop computes in float32, and divides q by the root of its size."""
    r, k, v, a, u = torch.randn(5, B, T, H, N)
    log_w, a, u = -torch.rand(B, T, H, N), torch.sigmoid(a), F.normalize(u, dim=-1)
    S = torch.randn(B, H, N, N)
    loop = plain("generalized_delta_rule/dplr/naive.py").dplr_recurrence
    turned = [t.transpose(1, 2) for t in (r * N**0.5, k, v, -u, u * a, log_w)]
    o_theirs, S_theirs = loop(*turned, initial_state=S)
    o, after = ops.matrix_scan(r, k, v, log_w.exp(), S, initial=S, erase=(-a * u, u))
    torch.testing.assert_close([o, after], [o_theirs.transpose(1, 2), S_theirs], rtol=1e-5, atol=1e-5)


def test_recurrence_of_rwkv6_is_flas() -> None:
    r, k, v = torch.randn(3, B, T, H, N)
    log_w, bonus = -torch.rand(B, T, H, N), torch.randn(H, N)
    S = torch.randn(B, H, N, N)
    loop = plain("rwkv6/recurrent_naive.py").naive_recurrent_rwkv6
    turned = [t.transpose(1, 2) for t in (r, k, v, log_w)]
    o_theirs, S_theirs = loop(*turned, bonus, scale=1.0, initial_state=S, output_final_state=True)
    o, after = read_then_write(r, k, v, log_w.exp(), S, S, None, None)
    o = o + (r * bonus * k).sum(-1, keepdim=True) * v
    torch.testing.assert_close([o, after], [o_theirs.transpose(1, 2), S_theirs], rtol=1e-5, atol=1e-5)
