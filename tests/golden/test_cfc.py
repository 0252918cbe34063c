"""CfC against ncps, the authors' package: outputs, gradients, states, with and without elapsed times."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from clew.cells.cfc import CfC

ncps = pytest.importorskip("ncps.torch")

B, T, I, H, U = 3, 9, 4, 5, 7
ACTIVATIONS = {"lecun tanh": "lecun_tanh", "tanh": "tanh", "relu": "relu", "silu": "silu", "gelu": "gelu"}
CASES = list(itertools.product(["default", "no gate", "pure"], (0, 1, 3), (False, True), (False, True)))


def pair(mode: str, layers: int, mixed: bool, gaps: bool, activation: str = "lecun tanh") -> tuple[nn.Module, CfC]:
    theirs = ncps.CfC(
        I,
        H,
        mode=mode.replace(" ", "_"),
        mixed_memory=mixed,
        activation=ACTIVATIONS[activation],
        backbone_units=U,
        backbone_layers=layers,
    ).double()
    ours = CfC(I + gaps, H, mode=mode, units=U, layers=layers, activation=activation, mixed=mixed, gaps=gaps).double()
    copy(theirs, ours)
    return theirs, ours


def heads(cell: nn.Module) -> list[nn.Linear]:
    return [cell.ff1] if cell.mode == "pure" else [cell.ff1, cell.ff2, cell.time_a, cell.time_b]


@torch.no_grad()
def copy(theirs: nn.Module, ours: CfC) -> None:
    cell = theirs.rnn_cell
    layers = [] if cell.backbone is None else [each for each in cell.backbone if isinstance(each, nn.Linear)]
    mine = [ours.first, *ours.rest]
    for each, layer in zip(mine[: len(layers)], layers, strict=True):
        each.load_state_dict(layer.state_dict())
    mine[-1].weight.copy_(torch.cat([head.weight for head in heads(cell)]))
    mine[-1].bias.copy_(torch.cat([head.bias for head in heads(cell)]))
    if cell.mode == "pure":
        ours.tau.copy_(cell.w_tau[0])
        ours.A.copy_(cell.A[0])
    if theirs.use_mixed:
        # The peer's gates stand in the order g, i, f, o, and it adds 1 to f; ours in torch's, i, f, g, o.
        g, i, f, o = theirs.lstm.input_map.bias.chunk(4)
        ours.memory_x.bias.copy_(torch.cat([i, f + 1, g, o]))
        for to, layer in ((ours.memory_x.weight, theirs.lstm.input_map), (ours.memory_h, theirs.lstm.recurrent_map)):
            g, i, f, o = layer.weight.chunk(4)
            to.copy_(torch.cat([i, f, g, o]))


def named(theirs: nn.Module, ours: CfC) -> list[tuple[list[nn.Parameter], nn.Parameter]]:
    """Parameters of the peer, and the one of ours that is they, joined over rows."""
    cell, mine = theirs.rnn_cell, [ours.first, *ours.rest]
    layers = [] if cell.backbone is None else [each for each in cell.backbone if isinstance(each, nn.Linear)]
    found = [([layer.weight], each.weight) for layer, each in zip(layers, mine, strict=False)]
    found += [([layer.bias], each.bias) for layer, each in zip(layers, mine, strict=False)]
    found.append(([head.weight for head in heads(cell)], mine[-1].weight))
    found.append(([head.bias for head in heads(cell)], mine[-1].bias))
    if cell.mode == "pure":
        found += [([cell.w_tau], ours.tau), ([cell.A], ours.A)]
    return found


def compare(theirs: nn.Module, ours: CfC, gaps: bool) -> None:
    assert len(list(ours.parameters())) == len(named(theirs, ours)) + 3 * theirs.use_mixed
    x, s = torch.randn(B, T, I, dtype=torch.float64), torch.rand(B, T, 1, dtype=torch.float64) + 0.1
    if not gaps:
        s = torch.ones_like(s)
    h, c, mix = torch.randn(B, H).double(), torch.randn(B, H).double(), torch.randn(B, T, H).double()
    theirs_in = [each.clone().requires_grad_() for each in (x, s, h, c)]
    ours_in = [each.clone().requires_grad_() for each in (x, s, h, c)]

    # The peer takes one time a step for a batch of one, so each row runs by itself.
    wanted, wanted_state = [], []
    for row in range(B):
        x1, s1, h1, c1 = (each[row : row + 1] for each in theirs_in)
        y, state = theirs(x1, (h1, c1) if theirs.use_mixed else h1, s1 if gaps else None)
        wanted.append(y)
        wanted_state.append(state if theirs.use_mixed else (state,))
    wanted = torch.cat(wanted)
    wanted_state = [torch.cat(leaf) for leaf in zip(*wanted_state, strict=True)]
    x1, s1, h1, c1 = ours_in
    state = ours.init_state(B)._replace(h=h1, **({"c": c1} if theirs.use_mixed else {}))
    got, got_state = ours(torch.cat([x1, s1], -1) if gaps else x1, state)
    got_state = [leaf for leaf in got_state if isinstance(leaf, torch.Tensor)]
    torch.testing.assert_close(got, wanted, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(got_state, wanted_state, atol=1e-12, rtol=1e-12)

    loss = [
        (y * mix).sum() + sum(leaf.square().sum() for leaf in s) for y, s in ((wanted, wanted_state), (got, got_state))
    ]
    groups = named(theirs, ours)
    flat = [p for group, _ in groups for p in group]
    wanted_g = iter(torch.autograd.grad(loss[0], [*theirs_in, *flat], retain_graph=True, allow_unused=True))
    got_g = iter(
        torch.autograd.grad(loss[1], [*ours_in, *(p for _, p in groups)], retain_graph=True, allow_unused=True)
    )
    for each in theirs_in:
        zero = torch.zeros_like(each)
        a, b = next(got_g), next(wanted_g)
        torch.testing.assert_close(zero if a is None else a, zero if b is None else b, atol=1e-11, rtol=1e-11)
    for group, mine in groups:
        joined = torch.cat([next(wanted_g).reshape(-1, *mine.shape[1:]) for _ in group])
        torch.testing.assert_close(next(got_g), joined.view_as(mine), atol=1e-11, rtol=1e-11)
    if theirs.use_mixed:
        ours_w = [ours.memory_x.weight, ours.memory_x.bias, ours.memory_h]
        theirs_w = [theirs.lstm.input_map.weight, theirs.lstm.input_map.bias, theirs.lstm.recurrent_map.weight]
        pairs = zip(torch.autograd.grad(loss[1], ours_w), torch.autograd.grad(loss[0], theirs_w), strict=True)
        for a, b in pairs:
            g, i, f, o = b.chunk(4)
            torch.testing.assert_close(a, torch.cat([i, f, g, o]), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize(("mode", "layers", "mixed", "gaps"), CASES)
def test_sequence(mode: str, layers: int, mixed: bool, gaps: bool) -> None:
    compare(*pair(mode, layers, mixed, gaps), gaps)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str) -> None:
    compare(*pair("default", 2, False, True, activation), True)


def test_defaults_are_the_peers() -> None:
    theirs, ours = ncps.CfC(I, H), CfC(I, H)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
    theirs.double(), ours.double()
    copy(theirs, ours)
    x = torch.randn(B, T, I, dtype=torch.float64)
    torch.testing.assert_close(ours(x)[0], theirs(x, torch.zeros(B, H).double())[0], atol=1e-12, rtol=1e-12)
