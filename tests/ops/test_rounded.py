"""Products rounded to bfloat16: those of factors that were rounded before, in the same order of steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import clew
from clew import ops
from clew.cells import GRU, LSTM, Elman
from clew.models import Single
from clew.ops import native
from clew.ops.precision import products, rounds
from clew.tasks.labelled import Labelled

tiles = pytest.mark.skipif(not native.has_rounding(), reason="this machine has no bfloat16 tiles")
SHAPES = ((5, 4, 3, 50), (17, 6, 40, 70), (33, 7, 20, 512))  # B, T, I, H: no whole tiles, several, more than a cache
CELLS = (Elman, GRU, LSTM)


def gradients(cell: torch.nn.Module, x: Tensor, weight: Tensor, **how: Tensor | None) -> list[Tensor]:
    y, state = cell(x, **how)
    loss = (y * weight).sum() + state.h.sum()
    return [y.detach(), *torch.autograd.grad(loss, [x, *cell.parameters()])]


def far(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@tiles
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_as_near_as_eight_bits_are(cell: type, shape: tuple[int, ...], ragged: bool, threads: int) -> None:
    """Outputs and all gradients, with lengths and resets."""
    torch.manual_seed(0)
    (B, T, I, H), before = shape, torch.get_num_threads()
    model, x, weight = cell(I, H), torch.randn(B, T, I, requires_grad=True), torch.randn(B, T, H)
    how = {"lengths": torch.randint(1, T + 1, (B,)), "reset": torch.rand(B, T) < 0.2} if ragged else {}
    torch.set_num_threads(threads)
    try:
        exact = gradients(model, x, weight, **how)
        with products("bfloat16"):
            found = gradients(model, x, weight, **how)
    finally:
        torch.set_num_threads(before)
    errors = [far(a, b) for a, b in zip(found, exact, strict=True)]
    assert max(errors) < 8e-3
    assert max(errors) > 1e-5  # it was the other product


@tiles
@pytest.mark.parametrize("cell", CELLS)
def test_sums_are_not_rounded(cell: type) -> None:
    """Factors that bfloat16 holds as they are give what float32 gives: a state of one step from such a state."""
    torch.manual_seed(0)
    model, H = cell(8, 64), 64
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.bfloat16())
        x = torch.zeros(16, 1, 8)
        state = model.init_state(16)._replace(h=torch.randn(16, H).bfloat16().float())
        exact = model(x, state)[0]
        with products("bfloat16"):
            found = model(x, state)[0]
    torch.testing.assert_close(found, exact, rtol=0, atol=2e-6)


def test_where_nobody_asked_nothing_is_rounded() -> None:
    model, x = LSTM(16, 64), torch.randn(8, 5, 16)
    with ops.reference():
        exact = model(x)[0]
    with products("float32"):
        torch.testing.assert_close(model(x)[0], exact, rtol=1e-5, atol=1e-5)
    with products("bfloat16"):
        double = LSTM(16, 64).double()
        with ops.reference():
            exact = double(x.double())[0]
        torch.testing.assert_close(double(x.double())[0], exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_rounds_and_scoring_does_not(precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned, scored = set(), set()
    loss, score = Single.loss, Labelled.score
    monkeypatch.setattr(Single, "loss", lambda *a: (learned.add(rounds()), loss(*a))[1])
    monkeypatch.setattr(Labelled, "score", lambda *a: (scored.add(rounds()), score(*a))[1])
    few = {"steps": 2, "width": 64, "progress": False, "validate_every": 2, "precision": precision}
    clew.train("sample:digits", tmp_path / "run", task="classify", target="digit", **few)
    assert learned == {precision == "bfloat16"}
    assert False in scored
    assert not rounds()
