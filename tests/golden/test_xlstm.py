"""mLSTM and sLSTM against transformers' xLSTM layer, and against the paper's equations without a stabiliser."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clew import tree
from clew.cells.mlstm import MLSTM, MLSTMState
from clew.cells.slstm import SLSTM

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("transformers", reason="this peer is not installed")
    from transformers import xLSTMConfig
    from transformers.models.xlstm.modeling_xlstm import xLSTMLayer

B, I, H = 3, 24, 3
EXACT = {"rtol": 0.0, "atol": 1e-11}


def everywhere(cell: torch.nn.Module) -> None:
    """Every parameter away from what it begins with, which is often 0."""
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))


def compare(ours: list[Tensor], theirs: list[Tensor], wanted: list[list[Tensor]]) -> None:
    """The tensors, and the gradients of one random mix of them; `wanted` holds what each side differentiates by."""
    torch.testing.assert_close(ours, theirs, **EXACT)
    weights = [torch.randn_like(t) for t in theirs]
    gradients = []
    for side, by in zip((ours, theirs), wanted, strict=True):
        mix = sum((w * t).sum() for w, t in zip(weights, side, strict=True))
        gradients.append([g.flatten() for g in torch.autograd.grad(mix, by)])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-10)


def pair(bias: bool, keys: float, chunk: int) -> tuple[MLSTM, xLSTMLayer, list[list[Tensor]]]:
    """Ours with the weights of transformers' layer, and the parameters of both, in the same order."""
    config = xLSTMConfig(
        hidden_size=I,
        num_heads=H,
        use_bias=bias,
        qk_dim_factor=keys,
        chunk_size=chunk,
        norm_reduction_force_float32=False,
    )
    # The configuration itself refuses float64 for the states, the layer does not.
    theirs = xLSTMLayer(SimpleNamespace(**{**config.to_dict(), "inference_state_dtype": "float64"})).double()
    everywhere(theirs)
    ours = MLSTM(I, I, heads=H, keys=keys, gate_cap=15.0, input_bias=-10.0, bias=bias, eps=1e-6).double()
    linears = [
        (ours.to_q, theirs.q),
        (ours.to_k, theirs.k),
        (ours.to_v, theirs.v),
        (ours.to_gate, theirs.ogate_preact),
        (ours.to_i, theirs.igate_preact),
        (ours.to_f, theirs.fgate_preact),
        (ours.out, theirs.out_proj),
    ]
    pairs = [(ours.norm.weight, theirs.multihead_norm.weight)]
    if bias:
        pairs.append((ours.norm.bias, theirs.multihead_norm.bias))
    for mine, yours in linears:
        pairs += list(zip(mine.parameters(), yours.parameters(), strict=True))
    assert len(pairs) == len(list(ours.parameters())) == len(list(theirs.parameters()))
    with torch.no_grad():
        for mine, yours in pairs:
            mine.copy_(yours.view_as(mine))
    return ours, theirs, [[mine for mine, _ in pairs], [yours for _, yours in pairs]]


def parts(state: MLSTMState) -> list[Tensor]:
    return [state.C[..., :-1], state.C[..., -1], state.m[..., None]]


@pytest.mark.parametrize(("bias", "keys", "T", "chunk"), [(False, 0.5, 11, 4), (True, 1.0, 8, 4), (True, 0.5, 5, 64)])
def test_mlstm_is_transformers_layer(bias: bool, keys: float, T: int, chunk: int) -> None:
    """Whole chunks, a rest, and the plain loop of theirs; the states, the stabiliser among them, are the same too."""
    ours, theirs, parameters = pair(bias, keys, chunk)
    x = torch.randn(B, T, I, dtype=torch.float64, requires_grad=True)
    y, state = ours(x)
    y_theirs, state_theirs = theirs(x)
    wanted = [[x, *side] for side in parameters]
    compare([y, *parts(state)], [y_theirs, *state_theirs], wanted)


def test_mlstm_streams_as_transformers() -> None:
    """One step at a time, each side with its own state; then a chunk from the state in mid-stream."""
    ours, theirs, _ = pair(False, 0.5, 4)
    x = torch.randn(B, 13, I, dtype=torch.float64)
    state, state_theirs = ours.init_state(B), None
    for t in range(7):
        y, state = ours.step(x[:, t], state)
        y_theirs, state_theirs = theirs(x[:, t : t + 1], state_theirs)
        torch.testing.assert_close([y, *parts(state)], [y_theirs[:, 0], *state_theirs], **EXACT)
    y, state = ours(x[:, 7:], state)
    y_theirs, state_theirs = theirs(x[:, 7:], state_theirs)
    torch.testing.assert_close([y, *parts(state)], [y_theirs, *state_theirs], **EXACT)


def mlstm_by_hand(cell: MLSTM, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Eq. 19-27 as they stand, exp and all, for each row, head and step; the true C and n."""
    rows, K, V = [], cell.key_size, cell.value_size
    memories, normalisers = [], []
    for row in x:
        C = [x.new_zeros(V, K) for _ in range(cell.heads)]
        n = [x.new_zeros(K) for _ in range(cell.heads)]
        outputs = []
        for x_t in row:
            q, k, v = cell.to_q(x_t), cell.to_k(x_t) / K**0.5, cell.to_v(x_t)
            i, f, heads = torch.exp(cell.to_i(x_t)), cell.to_f(x_t), []
            f = torch.sigmoid(f) if cell.forget == "sigmoid" else torch.exp(f)
            for h in range(cell.heads):
                q_h, k_h, v_h = q[h * K : h * K + K], k[h * K : h * K + K], v[h * V : h * V + V]
                C[h] = f[h] * C[h] + i[h] * torch.outer(v_h, k_h)
                n[h] = f[h] * n[h] + i[h] * k_h
                read = C[h] @ q_h / torch.clamp(torch.abs(n[h] @ q_h), min=1.0)
                heads.append(F.layer_norm(read, (V,), cell.norm.weight[h], eps=cell.eps))
            outputs.append(cell.out(torch.sigmoid(cell.to_gate(x_t)) * torch.cat(heads)))
        rows.append(torch.stack(outputs))
        memories.append(torch.stack(C))
        normalisers.append(torch.stack(n))
    return torch.stack(rows), [torch.stack(memories), torch.stack(normalisers)]


@pytest.mark.parametrize("input_bias", [-3.0, 0.0, 200.0])
@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_mlstm_is_the_papers(forget: str, input_bias: float) -> None:
    """The stabiliser changes nothing: y is that of the plain equations, and C exp(m) is their C."""
    cell = MLSTM(5, 12, heads=2, forget=forget, input_bias=input_bias, eps=1e-14).double()
    everywhere(cell)
    x = torch.randn(2, 9, 5, dtype=torch.float64, requires_grad=True)
    (y, state), (y_hand, (C, n)) = cell(x), mlstm_by_hand(cell, x)
    wanted = [x, *cell.parameters()]
    compare([y], [y_hand], [wanted, wanted])
    true = state.C * state.m.exp()[..., None, None] * cell.key_size**-0.5
    size = C.abs().max()
    torch.testing.assert_close(true[..., :-1].mT / size, C / size, **EXACT)
    torch.testing.assert_close(true[..., -1] / size, n / size, **EXACT)


def slstm_by_hand(cell: SLSTM, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Eq. 8-14 as they stand, with exp(i~) itself, for each row, head and step; the true c, n and h."""
    D, H = cell.head_size, cell.heads
    W_if, b_if = cell.to_if.weight.view(H, 2, D, -1), cell.to_if.bias.view(H, 2, D)
    W_zo, b_zo = cell.to_zo.weight.view(H, 2, D, -1), cell.to_zo.bias.view(H, 2, D)
    R = cell.weight_hh.view(H, D, 4, D)  # from, gate, to
    rows, finals = [], []
    for row in x:
        c, n, h = ([row.new_zeros(D) for _ in range(H)] for _ in range(3))
        outputs = []
        for t, x_t in enumerate(row):
            u_t = x_t
            if cell.conv is not None:
                taps = cell.conv.weight.shape[-1]
                past = [row[t - back] if t >= back else torch.zeros_like(x_t) for back in range(taps)]
                u_t = F.silu(sum(past[b] * cell.conv.weight[:, 0, taps - 1 - b] for b in range(taps)) + cell.conv.bias)
            heads = []
            for j in range(H):
                i = torch.exp(W_if[j, 0] @ u_t + b_if[j, 0] + h[j] @ R[j, :, 0])
                f = W_if[j, 1] @ u_t + b_if[j, 1] + h[j] @ R[j, :, 1]
                f = torch.sigmoid(f) if cell.forget == "sigmoid" else torch.exp(f)
                z = torch.tanh(W_zo[j, 0] @ x_t + b_zo[j, 0] + h[j] @ R[j, :, 2])
                o = torch.sigmoid(W_zo[j, 1] @ x_t + b_zo[j, 1] + h[j] @ R[j, :, 3])
                c[j], n[j] = f * c[j] + i * z, f * n[j] + i
                h[j] = o * c[j] / n[j]
                heads.append(h[j] if cell.norm is None else F.layer_norm(h[j], (D,), cell.norm.weight[j]))
            outputs.append(torch.cat(heads))
        rows.append(torch.stack(outputs))
        finals.append(torch.stack([torch.stack(part) for part in (c, n, h)]))
    return torch.stack(rows), list(torch.stack(finals, 1))


@pytest.mark.parametrize("input_bias", [-30.0, 0.0, 200.0])
@pytest.mark.parametrize("options", [{}, {"norm": False, "conv": 4}, {"forget": "exp", "conv": 1}])
def test_slstm_is_the_papers(options: dict, input_bias: float) -> None:
    cell = SLSTM(5, 12, heads=3, recurrent="uniform", **options).double()
    everywhere(cell)
    with torch.no_grad():
        cell.to_if.bias.view(3, 2, 4)[:, 0] += input_bias
    x = torch.randn(2, 9, 5, dtype=torch.float64, requires_grad=True)
    (y, state), (y_hand, (c, n, h)) = cell(x), slstm_by_hand(cell, x)
    wanted = [x, *cell.parameters()]
    compare([y, state.h], [y_hand, h], [wanted, wanted])
    for mine, true in ((state.c, c), (state.n, n)):
        torch.testing.assert_close(mine * state.m.exp() / n, true / n, **EXACT)
    assert bool((state.n >= 1).all())


@pytest.mark.parametrize("input_bias", [-300.0, 300.0])
@pytest.mark.parametrize("forgetful", [False, True])
@pytest.mark.parametrize("kind", [MLSTM, SLSTM])
def test_float32_holds_gates_that_overflow(kind: type, forgetful: bool, input_bias: float) -> None:
    """exp of these gates is infinite or 0 in float32; outputs, states and gradients are finite all
    the same, beside padding too."""
    cell = kind(5, 12, heads=2)
    with torch.no_grad():
        both = (cell.to_i.bias, cell.to_f.bias) if kind is MLSTM else cell.to_if.bias.view(2, 2, 6).unbind(1)
        both[0].add_(input_bias)
        both[1].sub_(300.0 * forgetful)
    x = torch.randn(2, 40, 5, requires_grad=True)
    x.data[:, 10:13] = 0.0
    y, state = cell(x, lengths=torch.tensor([40, 25]))
    leaves = list(tree.leaves(state))
    gradients = torch.autograd.grad(y.square().sum() + sum(leaf.sum() for leaf in leaves), [x, *cell.parameters()])
    assert all(bool(t.isfinite().all()) for t in (y, *leaves, *gradients))
