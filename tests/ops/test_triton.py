"""Triton's kernels against the definition. Without a GPU they are run by Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from problems import Problem, assert_near
from torch import Tensor

from clew import ops
from clew.ops import triton
from clew.ops.triton import tiles, trust

there = triton.installed() and triton.interpreted()
pytestmark = pytest.mark.skipif(not there, reason="needs Triton, and TRITON_INTERPRET=1")
CASES = ["linear 5", "complex 5", "constant 5", "maximum 5", "selective 5 3"]
CASES += ["matrix 3 5 1 2 1", "matrix 3 5 3", "delta 3 5 3", "delta 2 3 1 2 1"]
SMALL = {
    "elementwise": {"steps": 4, "columns": 4, "num_warps": 4, "num_stages": 1},
    "selective": {"steps": 4, "numbers": 64, "num_warps": 4, "num_stages": 1},
    "matrix": {"steps": 8, "numbers": 16, "num_warps": 4, "num_stages": 1},
    "matrix backward": {"steps": 4, "numbers": 16, "num_warps": 4, "num_stages": 1},
}


@pytest.fixture(autouse=True)
def ours(monkeypatch: pytest.MonkeyPatch):
    """Tiles as small as may be: what an interpreter does step by step takes long."""
    launch = triton.kernels("launch")
    for name, size in (("INTERVAL", 8), ("FEW_STEPS", 4), ("LEAST", 1), ("VALUES", 1)):
        monkeypatch.setattr(launch, name, size)
    monkeypatch.setattr(tiles, "GUESS", {**SMALL, "classical": {}})
    with ops.only("triton"):
        yield


def is_ours(outputs: list[Tensor]) -> bool:
    return outputs[0].grad_fn is not None and "triton" in type(outputs[0].grad_fn)._forward_cls.__module__


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", CASES)
def test_numbers_and_gradients(name: str, dtype: torch.dtype) -> None:
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    shapes = (1, True, True), (5, False, False), (9, True, True)  # about the tiles
    for T, ragged, resets in shapes[:2] if dtype == torch.float32 else shapes[2:]:
        problem = Problem(name, 2, T, dtype)
        with ops.reference():
            theirs = problem.run(ragged, resets)
        wanted = problem.gradients(theirs)
        found = problem.run(ragged, resets)
        assert is_ours(found)
        assert_near(found, theirs, tolerance)
        assert_near(problem.gradients(found), wanted, tolerance)


@pytest.mark.parametrize("name", CASES[::2])
def test_half_precision_is_summed_in_single(name: str) -> None:
    """The outputs are those of exact arithmetic on the rounded inputs, rounded once; their gradient reads them so."""
    problem = Problem(name, 2, 9, torch.bfloat16)
    exact = Problem(name, 2, 9)
    exact.inputs = [t.detach().double().requires_grad_() for t in problem.inputs]
    with ops.reference():
        theirs = exact.run(True, True)
    found = problem.run(True, True)
    assert found[0].dtype == torch.bfloat16
    assert_near([t.double() for t in found], theirs, 2**-7)  # the interpreter cuts digits off
    assert_near([t.double() for t in problem.gradients(found)], exact.gradients(theirs), 2**-5)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(name: str) -> None:
    problem, found = Problem(name, 1, 3), []
    for only in ("triton", "reference"):
        with ops.only(only):
            first = problem.gradients(problem.run(True, True), create_graph=True)
        said = sum(g.square().sum() + 0 * x.sum() for g, x in zip(first, problem.inputs, strict=True))
        found.append(torch.autograd.grad(said, problem.inputs, materialize_grads=True))
    assert_near(*found, 1e-10)


@pytest.mark.parametrize(("B", "T"), [(2, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("name", CASES)
def test_no_steps_and_no_rows(name: str, B: int, T: int) -> None:
    problem = Problem(name, B, T)
    y, after = problem.run()
    assert y.shape[:2] == (B, T)
    assert torch.equal(after, problem.inputs[problem.state])
    assert_near(problem.gradients([y, after])[problem.state : problem.state + 1], [_ones(after)], 1e-12)


def _ones(after: Tensor) -> Tensor:
    return torch.sin(torch.arange(after.numel(), dtype=after.dtype)).view(after.shape)


@pytest.mark.parametrize("name", CASES)
def test_a_nan_passes_neither_a_reset_nor_the_padding(name: str) -> None:
    problem = Problem(name, 2, 9)
    with torch.no_grad():
        for t in problem.inputs:
            if t.ndim > 2 and t.shape[1] == 9:
                t[0, 3] = torch.nan
                t[1, 6:] = torch.nan
    how = {"lengths": torch.tensor([9, 6]), "reset": torch.zeros(2, 9, dtype=torch.bool)}
    how["reset"][0, 5] = True
    y, after = problem.scan(*problem.inputs, **how)
    with ops.reference():
        expected, last = problem.scan(*problem.inputs, **how)
    torch.testing.assert_close(y, expected, equal_nan=True)
    torch.testing.assert_close(after, last, equal_nan=True)
    assert y[0, 5:].isfinite().all()
    assert (y[1, 6:] == 0).all()


@pytest.mark.parametrize("name", CASES[::2])
def test_strides_do_not_matter(name: str) -> None:
    problem = Problem(name, 2, 5)
    turned = [t.detach().mT.contiguous().mT.requires_grad_() for t in problem.inputs]
    with torch.no_grad():
        for a, b in zip(problem.scan(*problem.inputs), problem.scan(*turned), strict=True):
            assert torch.equal(a, b)


def cases() -> tuple[trust.Case, ...]:
    """Those of the law, of fewer numbers."""
    few = {"B": 2, "N": 3, "D": 3, "G": 1, "H": 2, "K": 3, "V": 3, "2": 2}
    sizes = (few | {"T": 9, "W": 3}, few | {"T": 4, "W": 1}, few | {"T": 2, "W": 3}, few | {"T": 1, "W": 1})
    return tuple(case._replace(sizes=s) for case, s in zip(trust.CASES, sizes, strict=True))


@pytest.mark.parametrize("name", trust.KERNELS)
def test_a_kernel_is_tried_before_it_is_trusted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, key = trust.KERNELS[name], (name, torch.float32, torch.device("cpu"))
    monkeypatch.setattr(trust, "CASES", cases())
    trust.forget()
    with torch.no_grad(), torch.device("meta"), torch.autocast("cpu"):  # whatever is around its first use
        assert trust.trusted(*key)
    forward, backward = triton.launches()[kernel.number]
    monkeypatch.setitem(triton.launches(), kernel.number, (forward, None))
    assert trust.trusted(*key)  # it was tried
    for wrong, found in [(1.01, "off by"), (torch.nan, "off by nan")][: 2 if name == "linear_scan" else 1]:

        def spoiled(*given: Any, wrong: float = wrong) -> dict[str, Tensor]:
            found = backward(*given)
            return found | {"dh0": wrong * found["dh0"]}

        monkeypatch.setitem(triton.launches(), kernel.number, (forward, spoiled))
        trust.forget()
        with pytest.warns(UserWarning, match=f"of {name} in torch.float32 is not used on cpu: {found}"):
            assert not trust.trusted(*key)
    trust.forget()


def test_no_memory_says_nothing_of_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> float:
        raise torch.OutOfMemoryError("no memory")

    key = "linear_scan", torch.float32, torch.device("cpu")
    monkeypatch.setitem(trust.LAWS, "linear_scan", none)
    trust.forget()
    assert not trust.trusted(*key)
    monkeypatch.setitem(trust.LAWS, "linear_scan", lambda *_: 0.0)
    assert trust.trusted(*key)
    trust.forget()


@pytest.mark.parametrize("name", CASES[::4])
def test_autocast_does_not_keep_kernels_away(name: str) -> None:
    problem, mixed = (Problem(name, 2, 5, torch.float32) for _ in range(2))
    expected = problem.run(True, True)
    with torch.autocast("cpu"):
        found = mixed.run(True, True)
    assert [t.dtype for t in found] == [t.dtype for t in expected]
    assert_near(found, expected, 0.0)
    assert_near(mixed.gradients(found), problem.gradients(expected), 0.0)


def test_kernels_compile_for_an_h100() -> None:
    """An interpreter takes what a compiler refuses."""
    command = [sys.executable, str(Path(__file__).parent / "compile_kernels.py")]
    said = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "0"}, capture_output=True, text=True)
    assert said.stdout == "compiled\n", said.stderr[-2000:]


def test_doctor_tries_every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "CASES", cases())
    monkeypatch.setattr(trust, "GATED", ((2, 3, 6, 1, True), (3, 2, 8, 2, False)))
    trust.forget()
    found = trust.laws(torch.device("cpu"), (torch.float32,))
    assert found == {f"{name}, torch.float32": True for name in trust.LAWS}
    trust.forget()


def test_sizes_of_tiles_are_kept_by_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    guess, device = tiles.of("elementwise", torch.device("cpu")), torch.device("cpu")
    path = tiles.keep(tiles.name_of(device), {"elementwise": {"steps": 16}})
    assert path.parent == tmp_path / "clew" / "tiles"
    tiles.keep(tiles.name_of(device), {"matrix": {"steps": 16}, "classical": {"gru float32 1x128": 0}})
    assert tiles.of("elementwise", device) == {**guess, "steps": 16}
    assert tiles.of("classical", device) == {"gru float32 1x128": 0}
    for wrong in (
        "{",
        "[1]",
        '{"elementwise": 3}',
        '{"elementwise": {"steps": "16"}}',
        '{"elementwise": {"steps": 48}}',
    ):
        path.write_text(wrong)
        tiles._measured.cache_clear()
        assert tiles.of("elementwise", device) == guess
    tiles._measured.cache_clear()


@pytest.mark.parametrize(("B", "H", "chosen"), [(16, 256, True), (20, 300, True), (64, 700, False), (65, 256, False)])
def test_gated_kernels_run_where_all_around_was_faster(
    B: int, H: int, chosen: bool, tmp_path: Path, monkeypatch
) -> None:
    classical, device = triton.kernels("classical"), torch.device("cpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    known = {f"gru float32 {b}x{h}": 150 for b in (16, 64) for h in (256, 512)} | {"gru float32 64x1024": 104}
    tiles.keep(tiles.name_of(device), {"classical": known})
    assert classical.faster("gru", torch.empty(B, 1, 3), H) == chosen
    assert not classical.faster("gru", torch.empty(B, 1, 3, dtype=torch.bfloat16), H)
    assert not classical.faster("gru", torch.empty(B, 1, 3), 2048)
    tiles._measured.cache_clear()
