"""Elman, GRU and LSTM by Triton against the definition; interpreted where there is no GPU."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from problems import assert_near
from torch import Tensor

from clew import ops
from clew.ops import triton
from clew.ops.definition import Weights
from clew.ops.triton import classical

pytestmark = pytest.mark.skipif(not triton.installed(), reason="needs triton: pip install 'clew[gpu]'")
CELLS = {"tanh": 1, "relu": 1, "gru": 3, "lstm": 4}  # gates
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several groups of rows and blocks of units, on one program each."""
    if not GPU:
        monkeypatch.setattr(classical, "ROWS", 2)
        monkeypatch.setattr(classical, "UNITS", 4)
        monkeypatch.setattr(classical, "INNER", 4)


class Case:
    def __init__(self, cell: str, B: int = 3, T: int = 4, I: int = 3, H: int = 5, biased: bool = True) -> None:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return (0.5 * torch.randn(*shape, generator=generator)).to(DEVICE).requires_grad_()

        G, n = CELLS[cell] * H, 2 if cell == "lstm" else 1
        self.cell, self.x = cell, draw(B, T, I)
        self.state, self.initial = [draw(B, H) for _ in range(n)], [draw(B, H) for _ in range(n)]
        self.w = Weights(draw(G, I), draw(G, H), *((draw(G), draw(G)) if biased else ()))
        self.lengths = torch.linspace(T, 0, B).round().long()
        self.reset = torch.rand(B, T, generator=generator) < 0.4

    @property
    def tensors(self) -> list[Tensor]:
        return [self.x, *self.state, *self.initial, *(t for t in self.w if isinstance(t, Tensor))]

    def run(self, only: ops.Implementation, ragged: bool, resets: bool, backwards: bool = False) -> list[Tensor]:
        """Outputs and the last state."""
        given = (self.x, (*self.state, ()), self.w, *([self.cell] if CELLS[self.cell] == 1 else []))
        scan = {"gru": ops.gru_scan, "lstm": ops.lstm_scan}.get(self.cell, ops.elman_scan)
        with ops.only(only):
            y, after = scan(
                *given,
                initial=(*self.initial, ()),
                lengths=self.lengths if ragged else None,
                reset=self.reset if resets else None,
                backwards=backwards,
            )
        return [y, *after[:-1]]

    def gradients(self, outputs: list[Tensor], **how: bool) -> list[Tensor]:
        along = [torch.sin(torch.arange(t.numel(), device=t.device, dtype=t.dtype)).view(t.shape) for t in outputs]
        found = torch.autograd.grad(outputs, self.tensors, along, allow_unused=True, **how)
        return [torch.zeros_like(t) if g is None else g for g, t in zip(found, self.tensors, strict=True)]


@pytest.mark.parametrize("cell", CELLS)
def test_numbers_and_gradients(cell: str) -> None:
    for ragged, resets in product((False, True), (False, True)):
        case = Case(cell)
        found, expected = case.run("triton", ragged, resets), case.run("reference", ragged, resets)
        assert "triton" in type(found[1].grad_fn)._forward_cls.__module__
        assert_near(found, expected, 1e-6)
        assert_near(case.gradients(found), case.gradients(expected), 2e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_shapes_and_directions(cell: str) -> None:
    for case, backwards in ((Case(cell, 1, 1, 2, 1), False), (Case(cell, biased=False), True)):
        found, expected = case.run("triton", True, True, backwards), case.run("reference", True, True, backwards)
        assert_near(found, expected, 1e-6)
        assert_near(case.gradients(found), case.gradients(expected), 2e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_second_derivatives(cell: str) -> None:
    case, seconds = Case(cell, 2, 3, 2, 3), []
    for only in ("triton", "reference"):
        first = case.gradients(case.run(only, True, True), create_graph=True)
        seconds.append(case.gradients([g for g in first if g.requires_grad]))
    assert_near(seconds[0], seconds[1], 1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_a_nan_passes_neither_a_reset_nor_the_padding(cell: str) -> None:
    case = Case(cell)
    with torch.no_grad():
        case.x[0, 1], case.x[1, 2:] = torch.nan, torch.nan
    case.lengths, case.reset = torch.tensor([4, 2, 0]), torch.zeros(3, 4, dtype=torch.bool)
    case.reset[0, 3] = True
    found, expected = case.run("triton", True, True), case.run("reference", True, True)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, equal_nan=True)
    assert found[0][0, 3].isfinite().all()
    assert (found[0][1, 2:] == 0).all()


@pytest.mark.parametrize("cell", CELLS)
def test_half_precision(cell: str) -> None:
    """What is multiplied is rounded, what is summed is not. (An interpreter multiplies no bfloat16.)"""
    case, exact = Case(cell, 2, 3), Case(cell, 2, 3)
    case.x, case.w = case.x.detach().half(), Weights(*(t.detach().half() for t in case.w if isinstance(t, Tensor)))
    case.state, case.initial = ([t.detach().half() for t in some] for some in (case.state, case.initial))
    found = case.run("triton", True, True)
    assert found[0].dtype == torch.float16
    assert_near([t.float() for t in found], exact.run("reference", True, True), 2e-3)
