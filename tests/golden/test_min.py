"""MinGRU and MinLSTM against minGRU-pytorch, another implementation of the paper: outputs, gradients, streams."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from clew.cells.mingru import MinGRU
from clew.cells.minlstm import MinLSTM

peer = pytest.importorskip("minGRU_pytorch", reason="the peer minGRU-pytorch is not installed")
minLSTM = pytest.importorskip("minGRU_pytorch.minLSTM").minLSTM

B, T, I = 3, 19, 6
OPTIONS = [{}, {"expansion_factor": 1.5}, {"proj_out": True}, {"expansion_factor": 2.0, "proj_out": False}]
each = pytest.mark.parametrize("options", OPTIONS, ids=str)
both = pytest.mark.parametrize("cell", [MinGRU, MinLSTM])


def pair(cell: type, options: dict) -> tuple[nn.Module, nn.Module, dict[str, Tensor]]:
    """The peer, ours with the peer's numbers, and ours by the peer's names (they share a matrix, cut in parts)."""
    theirs = (peer.minGRU if cell is MinGRU else minLSTM)(I, **options).double()
    parts = ["to_candidate", "to_gate"] if cell is MinGRU else ["to_candidate", "to_forget", "to_input"]
    joined = theirs.to_hidden_and_gate if cell is MinGRU else theirs.to_hidden_and_f_i_gate
    ours = cell(I, joined.out_features // len(parts), bias=False).double()
    with torch.no_grad():
        joined.weight *= 4  # candidates on both sides of g's corner
        for name, rows in zip(parts, joined.weight.chunk(len(parts)), strict=True):
            getattr(ours, name).weight.copy_(rows)
    return theirs, ours, {name: getattr(ours, name).weight for name in parts}


@both
@each
def test_sequence(cell: type, options: dict) -> None:
    theirs, ours, weights = pair(cell, options)
    x = 2 * torch.randn(B, T, I, dtype=torch.float64)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    wanted, got = theirs(a), theirs.to_out(ours(b)[0])
    mix, joined = torch.randn_like(wanted), next(theirs.parameters())
    wanted_x, wanted_w = torch.autograd.grad((wanted * mix).sum(), [a, joined])
    got_x, *got_w = torch.autograd.grad((got * mix).sum(), [b, *weights.values()])
    torch.testing.assert_close(got, wanted, atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(got_x, wanted_x, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(torch.cat(got_w), wanted_w, atol=1e-10, rtol=1e-10)


@both
@each
def test_stream(cell: type, options: dict) -> None:
    """Step by step against the peer's own steps."""
    theirs, ours, _ = pair(cell, options)
    hidden, state = None, ours.init_state(B)
    for x_BI in torch.randn(T, B, I, dtype=torch.float64):
        wanted, hidden = theirs(x_BI[:, None], hidden, return_next_prev_hidden=True)
        got, state = ours.step(x_BI, state)
        torch.testing.assert_close(theirs.to_out(got), wanted[:, 0], atol=1e-13, rtol=1e-13)
        torch.testing.assert_close(state, hidden[:, 0], atol=1e-13, rtol=1e-13)


@each
def test_second_chunk_of_mingru(options: dict) -> None:
    """The peer's minLSTM puts the state that it is given through g once more, so only minGRU goes on in chunks."""
    theirs, ours, _ = pair(MinGRU, options)
    x = torch.randn(B, T, I, dtype=torch.float64)
    _, hidden = theirs(x[:, :8], return_next_prev_hidden=True)
    wanted, hidden = theirs(x[:, 8:], hidden, return_next_prev_hidden=True)
    got, state = ours(x[:, 8:], ours(x[:, :8])[1])
    torch.testing.assert_close(theirs.to_out(got), wanted, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(state, hidden[:, 0], atol=1e-12, rtol=1e-12)


def test_shut_gates() -> None:
    """Where both gates of minLSTM underflow their shares are still those of the peer's logarithms."""
    ours = MinLSTM(1, 1, positive=False)
    with torch.no_grad():
        for layer, weight in ((ours.to_forget, 1.0), (ours.to_input, 1.0), (ours.to_candidate, 0.0)):
            layer.weight.fill_(weight)
            layer.bias.zero_()
        ours.to_input.bias.fill_(1.0)
    y, _ = ours(torch.full((1, 1, 1), -300.0), torch.ones(1, 1))
    torch.testing.assert_close(y.flatten(), torch.sigmoid(torch.tensor([-1.0])))
