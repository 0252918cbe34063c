"""Elman, GRU and LSTM by Triton's interpreter against the definition. On a GPU `make gpu` compares them."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from problems import CELLS, Classical, assert_near
from torch import Tensor

from clew import cells, ops, tree
from clew.ops import triton
from clew.ops.definition import Weights
from clew.ops.triton import classical, grid

there = triton.installed() and triton.interpreted()
pytestmark = pytest.mark.skipif(not there, reason="needs Triton, and TRITON_INTERPRET=1")


@pytest.fixture(autouse=True, params=[4, 8], ids=["several blocks", "weights held"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Several groups of rows on one program each, with several blocks of units, or with one, whose weights are held."""
    for name, size in (("ROWS", (2,)), ("UNITS", (request.param,)), ("INNER", 4), ("LEAST", 1)):
        monkeypatch.setattr(grid, name, size)
    return request.param == 8


def by(only: ops.Implementation, problem: Classical, *how: bool) -> list[Tensor]:
    """Outputs and the last state."""
    with ops.only(only):
        return problem.run(*how)


@pytest.mark.parametrize("cell", CELLS)
def test_numbers_and_gradients(cell: str, held: bool) -> None:
    for ragged, resets in [(True, True)] if held else [(False, False), (True, True)]:
        problem = Classical(cell, (3, 4, 3, 5), torch.float32)
        found, expected = (by(only, problem, ragged, resets) for only in ("triton", "reference"))
        assert "triton" in type(found[1].grad_fn)._forward_cls.__module__
        assert_near(found, expected, 1e-6)
        assert_near(problem.gradients(found), problem.gradients(expected), 2e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_shapes_directions_and_strides(cell: str, held: bool) -> None:
    cases = (
        ((1, 1, 2, 1), {}, (True, True)),
        ((3, 3, 3, 5), {"bias": False}, (True, True, True)),
        ((3, 3, 3, 5), {"strided": True}, ()),
        ((3, 3, 3, 6), {"heads": 2}, (True, True)),
        ((3, 3, 3, 6), {"heads": 6}, (False, True, True)),
    )
    for sizes, options, how in cases[3:] if held else cases[:3]:
        problem = Classical(cell, sizes, torch.float32, **options)
        found, expected = (by(only, problem, *how) for only in ("triton", "reference"))
        assert_near(found, expected, 1e-6)
        assert_near(problem.gradients(found), problem.gradients(expected), 2e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_states_may_lie_as_they_like(cell: str) -> None:
    problem, found = Classical(cell, (3, 4, 3, 5), torch.float32), []
    for only in ("triton", "reference"):
        _, *after = by(only, problem)
        said = sum((h.T * torch.arange(15.0).view(5, 3)).sum() for h in after)
        found.append(torch.autograd.grad(said, problem.inputs, materialize_grads=True))
    assert_near(*found, 2e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_second_derivatives(cell: str) -> None:
    problem, seconds = Classical(cell, (2, 3, 2, 3), torch.float32), []
    for only in ("triton", "reference"):
        first = problem.gradients(by(only, problem, True, True), create_graph=True)
        seconds.append(problem.gradients([g for g in first if g.requires_grad]))
    assert_near(seconds[0], seconds[1], 1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_a_nan_passes_neither_a_reset_nor_the_padding(cell: str) -> None:
    problem = Classical(cell, (3, 4, 3, 5), torch.float32)
    with torch.no_grad():
        problem.x[0, 1], problem.x[1, 2:] = torch.nan, torch.nan
    problem.lengths, problem.reset = torch.tensor([4, 2, 0]), torch.zeros(3, 4, dtype=torch.bool)
    problem.reset[0, 3] = True
    found, expected = (by(only, problem, True, True) for only in ("triton", "reference"))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)
    assert found[0][0, 3].isfinite().all()
    assert (found[0][1, 2:] == 0).all()


@pytest.mark.parametrize("cell", CELLS)
def test_half_precision(cell: str) -> None:
    """What is multiplied is rounded, what is summed is not. (An interpreter multiplies no bfloat16.)"""
    problem, exact = Classical(cell, (2, 3, 3, 5), torch.float16), Classical(cell, (2, 3, 3, 5), torch.float16)
    exact.x, exact.w = exact.x.float(), Weights(*(t.float() for t in exact.w if isinstance(t, Tensor)))
    exact.state, exact.initial = (tuple(t.float() for t in some) for some in (exact.state, exact.initial))
    found = by("triton", problem, True, True)
    assert found[0].dtype == torch.float16
    assert_near([t.float() for t in found], by("reference", exact, True, True), 2e-3)


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_slstm(forget: Literal["sigmoid", "exp"], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    calls, run = [], classical.run
    monkeypatch.setattr(classical, "run", lambda *given: calls.append(given[0]) or run(*given))
    cell = cells.SLSTM(3, 12, heads=2, forget=forget, recurrent="uniform", norm=False)
    for ragged, resets in ((False, False), (True, True)):
        lengths = torch.tensor([4, 2, 0]) if ragged else None
        reset = torch.rand(3, 4) < 0.4 if resets else None
        x, found = torch.randn(3, 4, 3, requires_grad=True), []
        _, begin = cell(torch.randn(3, 2, 3))
        begin = tree.map(lambda t: t.detach().requires_grad_(), begin)
        for only in ("triton", "reference"):
            with ops.only(only):
                y, after = cell(x, begin, lengths=lengths, reset=reset)
            outputs, leaves = [y, *tree.leaves(after)], [x, *tree.leaves(begin), *cell.parameters()]
            along = [torch.sin(torch.arange(t.numel(), dtype=t.dtype)).view(t.shape) for t in outputs]
            gradients = torch.autograd.grad(outputs, leaves, along, create_graph=True, materialize_grads=True)
            second = sum(g.square().sum() for g in gradients)
            seconds = torch.autograd.grad(second, leaves, materialize_grads=True) if ragged and resets else ()
            found.append([*outputs, *gradients, *seconds])
        assert_near(*found, 3e-6)
    assert calls == 2 * ["slstm_exp" if forget == "exp" else "slstm"]
