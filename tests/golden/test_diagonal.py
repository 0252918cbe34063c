"""LRU, S5 and IndRNN against the papers' equations, one step and one unit at a time in complex numbers; RGLRU against
transformers' RecurrentGemma."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from clew.cells.indrnn import IndRNN
from clew.cells.lru import LRU
from clew.cells.rglru import RGLRU, RGLRUState
from clew.cells.s5 import S5, hippo
from clew.errors import ClewError

B, T, I, H = 3, 13, 3, 4
F64 = torch.float64


def agree(got: list[Tensor], wanted: list[Tensor], given: list[Tensor], tolerance: float = 1e-11) -> None:
    """Equal tensors, and equal gradients of a mix of them with respect to what was given."""
    torch.testing.assert_close(got, wanted, atol=tolerance, rtol=tolerance)
    mix = [torch.randn_like(each) for each in wanted]
    gradients = [
        torch.autograd.grad(sum((a * m).sum() for a, m in zip(ours, mix, strict=True)), given, allow_unused=True)
        for ours in (got, wanted)
    ]
    assert all(each is not None for each in gradients[0])
    torch.testing.assert_close(gradients[0], gradients[1], atol=10 * tolerance, rtol=10 * tolerance)


def against_loop(cell: nn.Module, loop: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], x: Tensor) -> None:
    """`loop` maps one row (T, I) and its state to outputs (T, H) and the state."""
    x = x.clone().requires_grad_()
    state = torch.randn_like(cell.init_state(B)).requires_grad_()
    rows = [loop(x[row], state[row]) for row in range(B)]
    wanted = [torch.stack(each) for each in zip(*rows, strict=True)]
    agree(list(cell(x, state)), wanted, [x, state, *cell.parameters()])


def complex_of(pairs: Tensor) -> Tensor:
    return torch.complex(pairs[..., 0], pairs[..., 1])


def through(skip: nn.Module, x_I: Tensor) -> Tensor:
    return skip.D * x_I if skip.D.ndim == 1 else skip.D @ x_I


@pytest.mark.parametrize("options", [{}, {"state_size": 6, "radius": (0.8, 0.99), "phase": 0.5}], ids=str)
@pytest.mark.parametrize("width", [H, I])
def test_lru(options: dict, width: int) -> None:
    cell = LRU(I, width, **options).to(F64)

    def loop(x_TI: Tensor, h_N2: Tensor) -> tuple[Tensor, Tensor]:
        lam = torch.exp(torch.complex(-torch.exp(cell.nu), torch.exp(cell.theta)))
        h, ys = complex_of(h_N2), []
        for x_I in x_TI:
            h = lam * h + torch.exp(cell.gamma) * (complex_of(cell.B) @ x_I.to(h.dtype))
            ys.append((complex_of(cell.C) @ h).real + through(cell.skip, x_I))
        return torch.stack(ys), torch.view_as_real(h)

    against_loop(cell, loop, torch.randn(B, T, I, dtype=F64))


def test_lru_begins_on_its_ring() -> None:
    """|lambda|^2 is spread evenly between the squared radii, the angle up to its limit; gamma makes up for it."""
    cell = LRU(2, 2, state_size=20_000, radius=(0.5, 0.9), phase=1.5).to(F64)
    square = torch.exp(-2 * torch.exp(cell.nu)).detach()
    assert square.min() >= 0.25 - 1e-6
    assert square.max() <= 0.81 + 1e-6
    assert float(square.mean()) == pytest.approx(0.53, abs=0.01)
    angle = torch.exp(cell.theta).detach()
    assert angle.max() <= 1.5 + 1e-6
    assert float(angle.mean()) == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(torch.exp(cell.gamma).detach(), (1 - square).sqrt(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("radius", [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_lru_begins_finite(radius: tuple[float, float]) -> None:
    assert all(p.isfinite().all() for p in LRU(2, 50, radius=radius).parameters())


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("options", [{}, {"state_size": 8, "blocks": 2, "dt": (0.1, 1.0), "clip": True}], ids=str)
@pytest.mark.parametrize("width", [H, I])
def test_s5(options: dict, width: int, gaps: bool) -> None:
    cell = S5(I + gaps, width, gaps=gaps, **options).to(F64)
    with torch.no_grad():
        cell.growth[0] = 0.01  # what `clip` is for

    def loop(x_TI: Tensor, h_N2: Tensor) -> tuple[Tensor, Tensor]:
        growth = torch.clamp(cell.growth, max=-1e-4) if cell.clip else cell.growth
        lam, h, ys = torch.complex(growth, cell.frequency), complex_of(h_N2), []
        for x_I in x_TI:
            dt = torch.exp(cell.log_dt) * (x_I[-1] if gaps else 1.0)
            u = x_I[:I]
            a = torch.exp(lam * dt)
            h = a * h + ((a - 1) / lam)[:, None] * complex_of(cell.B) @ u.to(h.dtype)
            ys.append(2 * (complex_of(cell.C) @ h).real + through(cell.skip, u))
        return torch.stack(ys), torch.view_as_real(h)

    x = torch.randn(B, T, I + gaps, dtype=F64)
    if gaps:
        x[..., -1] = torch.rand(B, T) * 3
        x[0, 2, -1] = 0.0  # no time has passed: the state stays
    against_loop(cell, loop, x)


@pytest.mark.parametrize("size", [2, 6, 16])
def test_hippo(size: int) -> None:
    """V diag(Lambda) V^H, with the conjugates put back, is HiPPO-LegS with its part of rank one taken out."""
    A = torch.zeros(size, size, dtype=F64)
    for n in range(size):
        for k in range(size):
            legs = -(math.sqrt((2 * n + 1) * (2 * k + 1)) if n > k else n + 1 if n == k else 0)
            A[n, k] = legs + math.sqrt((n + 0.5) * (k + 0.5))
    roots, basis = hippo(size)
    whole = 2 * ((basis * roots) @ basis.mH).real
    torch.testing.assert_close(whole, A, atol=1e-12, rtol=1e-12)
    assert roots.shape == (size // 2,)


def test_s5_begins_as_the_real_system() -> None:
    """In the eigenvectors' basis B and C are those of a real system: outputs do not depend on the basis's phases."""
    cell = S5(I, H, state_size=8, dt=(0.05, 0.05)).to(F64)
    roots, basis = hippo(8)
    A = 2 * ((basis * roots) @ basis.mH).real
    Breal = 2 * (basis @ complex_of(cell.B.detach())).real  # V V^H = 1 with the conjugates put back
    assert float(Breal.abs().max()) <= 2 / 0.87962566 / math.sqrt(8) + 1e-6
    decay = torch.matrix_exp(0.05 * A)
    held = torch.linalg.solve(A, (decay - torch.eye(8, dtype=F64)) @ Breal)
    C = 2 * (complex_of(cell.C.detach()) @ basis.mH).real
    x, h, ys = torch.randn(T, I, dtype=F64), torch.zeros(8, dtype=F64), []
    for x_I in x:
        h = decay @ h + held @ x_I
        ys.append(C @ h + cell.skip.D.detach() @ x_I)
    torch.testing.assert_close(cell(x[None])[0][0].detach(), torch.stack(ys), atol=1e-6, rtol=1e-6)


def test_s5_small_steps_keep_their_digits() -> None:
    """(exp(Lambda dt) - 1) / Lambda in float32 is dt, nearly, not dt and what rounding leaves of 1."""
    cell = S5(1, 2, dt=(1e-5, 1e-5))
    _, held = cell.sampled(torch.exp(cell.log_dt))
    exact = cell.double().sampled(torch.exp(cell.log_dt))[1]
    torch.testing.assert_close(held.double(), exact, atol=1e-11, rtol=2e-6)


@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
@pytest.mark.parametrize("bias", [True, False])
def test_indrnn(nonlinearity: str, bias: bool) -> None:
    cell = IndRNN(I, H, nonlinearity=nonlinearity, bias=bias, steps=T).to(F64)

    def loop(x_TI: Tensor, h_H: Tensor) -> tuple[Tensor, Tensor]:
        h, ys = list(h_H), []
        for x_I in x_TI:
            for unit in range(H):
                pre = (cell.to_h.weight[unit] * x_I).sum() + cell.u[unit] * h[unit]
                pre = pre + cell.to_h.bias[unit] if bias else pre
                h[unit] = torch.tanh(pre) if nonlinearity == "tanh" else pre.clamp(min=0)
            ys.append(torch.stack(h))
        return torch.stack(ys), torch.stack(h)

    against_loop(cell, loop, torch.randn(B, T, I, dtype=F64))


def test_indrnn_begins_within_its_bound() -> None:
    u = IndRNN(1, 10_000, steps=20, gamma=3.0, epsilon=0.1).u.detach().double()
    grown = u**20
    assert 0.0999 <= grown.min() < 0.101
    assert 2.98 < grown.max() <= 3.001
    free = IndRNN(1, 10_000).u.detach()
    assert 0 <= free.min() < 0.01
    assert 0.99 < free.max() <= 1


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    gemma = pytest.importorskip(
        "transformers.models.recurrent_gemma.modeling_recurrent_gemma", reason="this peer is not installed"
    )
    from transformers import RecurrentGemmaConfig

W, HEADS = 6, 2


def gemma_pair() -> tuple[nn.Module, RGLRU]:
    """A recurrent block of the peer, whose state is held to float64 (its own parameter says float32), and ours."""
    config = RecurrentGemmaConfig(hidden_size=W, lru_width=W, num_attention_heads=HEADS, num_hidden_layers=1)
    block = gemma.RecurrentGemmaRecurrentBlock(config, 0).to(F64)
    block.rg_lru._rnn_scan = partial(block.rg_lru._rnn_scan, acc_dtype=F64)
    with torch.no_grad():
        for p in block.parameters():
            p.normal_(std=0.7)
        block.rg_lru.recurrent_param.sub_(2.0)
    ours = RGLRU(W, W, heads=HEADS, whole_start=True).to(F64)
    with torch.no_grad():
        for mine, theirs in gemma_names(ours, block):
            mine.copy_(theirs.view_as(mine))
    return block, ours


def gemma_names(ours: RGLRU, block: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
    return [
        (ours.to_u.weight, block.linear_x.weight),
        (ours.to_u.bias, block.linear_x.bias),
        (ours.to_gate.weight, block.linear_y.weight),
        (ours.to_gate.bias, block.linear_y.bias),
        (ours.out.weight, block.linear_out.weight),
        (ours.out.bias, block.linear_out.bias),
        (ours.conv_weight, block.conv_1d.weight),
        (ours.conv_bias, block.conv_1d.bias),
        (ours.Lambda, block.rg_lru.recurrent_param),
        (ours.input_gate.weight, block.rg_lru.input_gate_weight),
        (ours.input_gate.bias, block.rg_lru.input_gate_bias),
        (ours.recurrence_gate.weight, block.rg_lru.recurrent_gate_weight),
        (ours.recurrence_gate.bias, block.rg_lru.recurrent_gate_bias),
    ]


def test_rglru_block() -> None:
    """Outputs, final state, and gradients of both with respect to the input and all weights."""
    block, ours = gemma_pair()
    names = gemma_names(ours, block)
    assert len(names) == len(list(ours.parameters())) == len(list(block.parameters()))
    x = torch.randn(B, T, W, dtype=F64)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    wanted, _ = block(a, torch.arange(T).expand(B, T), None, use_cache=True)
    got, state = ours(b)
    ends = [
        (got, wanted),
        (state.h, block.rg_lru.recurrent_states),
        (state.past, block.conv1d_state.mT),  # the peer's is channels first
    ]
    assert state.begun.all()
    losses = [torch.zeros((), dtype=F64), torch.zeros((), dtype=F64)]
    for mine, theirs in ends:
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-12)
        mix = torch.randn_like(theirs)
        losses = [loss + (each * mix).sum() for loss, each in zip(losses, (mine, theirs), strict=True)]
    mine = torch.autograd.grad(losses[0], [b, *(p for p, _ in names)])
    theirs = torch.autograd.grad(losses[1], [a, *(p for _, p in names)])
    for got, wanted in zip(mine, theirs, strict=True):
        torch.testing.assert_close(got, wanted.view_as(got), atol=1e-11, rtol=1e-11)


def test_rglru_stream() -> None:
    """Some steps at once and the rest one by one, each with the peer's cache."""
    block, ours = gemma_pair()
    x = torch.randn(B, T, W, dtype=F64)
    wanted, _ = block(x[:, :5], torch.arange(5).expand(B, 5), None, use_cache=True)
    got, state = ours(x[:, :5])
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=1e-12)
    for t in range(5, T):
        wanted, _ = block(x[:, t : t + 1], torch.full((B, 1), t), None, use_cache=True)
        got, state = ours.step(x[:, t], state)
        torch.testing.assert_close(got, wanted[:, 0], atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(state.h, block.rg_lru.recurrent_states, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(state.past, block.conv1d_state.mT, atol=1e-12, rtol=1e-12)


def test_rglru_resets() -> None:
    """The recurrence alone, from what the convolution gave it: the peer's convolution runs across a reset."""
    block, ours = gemma_pair()
    with torch.no_grad():
        block.conv_1d.weight[:, :, :-1] = 0
        ours.conv_weight[:, :-1] = 0
    reset = torch.zeros(B, T, dtype=torch.bool)
    reset[0, 4] = reset[1, 1] = reset[1, 9] = True
    position = torch.arange(T) - torch.where(reset, torch.arange(T), 0).cummax(1).values
    x = torch.randn(B, T, W, dtype=F64)
    wanted, _ = block(x, position, None, use_cache=True)
    got, state = ours(x, reset=reset)
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(state.h, block.rg_lru.recurrent_states, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(
    "options", [{}, {"heads": 3, "width": 9, "taps": 2}, {"taps": 1, "whole_start": True}], ids=str
)
def test_rglru_equations(options: dict) -> None:
    """The paper's equations, one step and one block at a time, from a state in mid-stream."""
    cell = RGLRU(I, H, **options).to(F64)
    with torch.no_grad():
        for p in cell.parameters():
            p += 0.4 * torch.randn_like(p)
    x = torch.randn(B, T, I, dtype=F64, requires_grad=True)
    empty = cell.init_state(B)
    past, h = (torch.randn_like(leaf).requires_grad_() for leaf in empty[:2])
    given = [x, h, *([past] if cell.taps > 1 else []), *cell.parameters()]
    ys, seen, hs = [], list(past.unbind(1)), h
    size = cell.width // cell.heads
    for t in range(T):
        seen = [*seen, x[:, t] @ cell.to_u.weight.T + cell.to_u.bias][-cell.taps :]
        u = cell.conv_bias + sum(cell.conv_weight[:, j] * seen[j] for j in range(cell.taps))
        gates = []
        for gate in (cell.recurrence_gate, cell.input_gate):
            parts = [u[:, n * size : (n + 1) * size] @ gate.weight[n] + gate.bias[n] for n in range(cell.heads)]
            gates.append(1 / (1 + torch.exp(-torch.cat(parts, 1))))
        r, i = gates
        a = (1 / (1 + torch.exp(cell.Lambda))) ** (8 * r)
        hs = a * hs + torch.sqrt(1 - a**2) * (i * u)
        z = x[:, t] @ cell.to_gate.weight.T + cell.to_gate.bias
        gelu = 0.5 * z * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
        ys.append((hs * gelu) @ cell.out.weight.T + cell.out.bias)
    begun = torch.ones(B, dtype=torch.bool)
    got, state = cell(x, RGLRUState(past, h, begun))
    agree([got, state.h], [torch.stack(ys, 1), hs], given)


def test_rglru_shut_gate() -> None:
    """Where the decay rounds to 1 the slope of the root would be infinite: gradients stay finite."""
    cell = RGLRU(I, H)
    with torch.no_grad():
        cell.recurrence_gate.bias.fill_(-1e4)
    y, state = cell(torch.randn(B, T, I))
    (y.sum() + state.h.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in cell.parameters())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: LRU(2, 2, radius=(0.9, 0.5)),
        lambda: LRU(2, 2, phase=7.0),
        lambda: LRU(2, 2, state_size=-1),
        lambda: S5(2, 2, state_size=6, blocks=2),
        lambda: S5(1, 2, gaps=True),
        lambda: S5(2, 2, dt=(0.0, 0.1)),
        lambda: IndRNN(2, 2, epsilon=0.5),
        lambda: IndRNN(2, 2, steps=5, epsilon=3.0),
        lambda: IndRNN(2, 2, nonlinearity="gelu"),
        lambda: RGLRU(2, 6, heads=4),
        lambda: RGLRU(2, 6, taps=0),
    ],
)
def test_mistakes(wrong: Callable[[], nn.Module]) -> None:
    with pytest.raises(ClewError):
        wrong()
