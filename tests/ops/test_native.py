"""The compiled kernels: the definition's numbers and gradients, on every instruction set that the machine has."""

from __future__ import annotations

import copy
import multiprocessing
import os
import subprocess
import sys
import threading
from itertools import product

import pytest
import torch
from problems import CELLS, assert_near
from problems import Classical as Problem
from torch import Tensor

from clew import cells, ops
from clew.errors import ShapeError
from clew.ops import definition as ref
from clew.ops import native

INFO = native.native_info() or {"instruction_sets": []}
SETS = INFO["instruction_sets"]
SIZES = [(1, 1, 1, 1), (3, 7, 2, 5), (13, 9, 4, 17), (5, 6, 3, 64), (8, 5, 3, 48), (7, 12, 8, 32), (2, 3, 5, 130)]

pytestmark = pytest.mark.skipif(not SETS, reason="the compiled part is not there, as there is no C++ compiler")


@pytest.fixture(autouse=True, params=["products within", "products outside"])
def also_for_a_step(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "WORTH_PACKING", 1)
    if request.param == "products outside":
        monkeypatch.setattr(native, "LARGE", 0)


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest):
    native._native.use(request.param)
    yield request.param
    native._native.use(SETS[0])


@pytest.fixture
def sets():
    """Every instruction set, to be chosen one after the other."""
    yield SETS
    native.compiled().use(SETS[0])


def is_ours(outputs: list[Tensor]) -> bool:
    return type(outputs[0].grad_fn).__name__ == "_ScanBackward"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("cell", CELLS)
def test_numbers_and_gradients(cell: str, dtype: torch.dtype, sets: list[str]) -> None:
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for sizes, bias in product(SIZES, (True, False)):
        problem = Problem(cell, sizes, dtype, bias=bias)
        for ragged, resets, backwards in product((False, True), repeat=3):
            with ops.reference():  # the slow part, once for all instruction sets
                theirs = problem.run(ragged, resets, backwards)
            wanted = problem.gradients(theirs)
            for instruction_set in sets:
                native.compiled().use(instruction_set)
                ours = problem.run(ragged, resets, backwards)
                assert is_ours(ours)
                assert_near(ours, theirs, tolerance)
                assert_near(problem.gradients(ours), wanted, tolerance)


@pytest.mark.parametrize("cell", CELLS)
def test_tensors_that_are_not_contiguous(cell: str) -> None:
    problem = Problem(cell, (4, 5, 3, 6), strided=True)
    ours = problem.run(True, True)
    with ops.reference():
        theirs = problem.run(True, True)
    assert is_ours(ours)
    assert_near(ours, theirs, 1e-12)
    assert_near(problem.gradients(ours), problem.gradients(theirs), 1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_extremes(cell: str, instruction_set: str) -> None:
    """Gates at their ends, numbers too small for a full mantissa, and a NaN that stays with its row."""
    for dtype, scale in product((torch.float32, torch.float64), (1e4, 1e-30, 1e-40)):
        problem = Problem(cell, (6, 4, 3, 9), dtype)
        with torch.no_grad():
            problem.x *= scale
            ours = problem.run()
            with ops.reference():
                assert_near(ours, problem.run(), 1e-6)
            problem.x[2] = torch.nan
            poisoned = problem.run()
        for a, b in zip(ours, poisoned, strict=True):
            others = torch.arange(6) != 2
            assert torch.equal(a[others], b[others])
            assert b[2].isnan().all()


def test_infinite_inputs_saturate(instruction_set: str) -> None:
    for cell, sign in product(("tanh", "gru", "lstm"), (1, -1)):
        problem = Problem(cell, (2, 3, 2, 5), torch.float32)
        with torch.no_grad():
            problem.x.fill_(sign * torch.inf)
            problem.w.ih.abs_()
            ours = problem.run()
            with ops.reference():
                assert_near(ours, problem.run(), 1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_a_graph_kept_gives_the_same_gradients_again(cell: str) -> None:
    problem = Problem(cell, (3, 6, 2, 5))
    outputs = problem.run(True, True)
    first = problem.gradients(outputs, retain_graph=True)
    again = problem.gradients(outputs)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_second_derivatives_are_the_definitions(cell: str, backwards: bool) -> None:
    problem = Problem(cell, (3, 4, 2, 5))

    def second() -> list[Tensor]:
        first = problem.gradients(problem.run(True, True, backwards), create_graph=True)
        return problem.gradients([sum(g.square().sum() for g in first)])

    ours = second()
    with ops.reference():
        assert_near(ours, second(), 1e-10)


def test_weights_changed_in_place_are_seen() -> None:
    torch.manual_seed(0)
    cell = cells.LSTM(3, 20)
    optimizer = torch.optim.SGD(cell.parameters(), lr=0.5)
    x = torch.randn(2, 6, 3)
    for _ in range(3):
        cell(x)[0].square().sum().backward()
        optimizer.step()
        with ops.reference(), torch.no_grad():
            expected = cell(x)[0]
        assert torch.allclose(cell(x)[0], expected, atol=1e-6)


@pytest.mark.parametrize("kind", [cells.Elman, cells.GRU, cells.LSTM])
def test_gradients_share_no_memory(kind: type) -> None:
    cell = kind(3, 16)
    y, _ = cell(torch.randn(2, 5, 3))
    found = torch.autograd.grad(y.sum(), list(cell.parameters()))
    before = [g.clone() for g in found]
    for i, g in enumerate(found):
        g.zero_()
        assert all(torch.equal(a, b) for a, b in zip(found[i + 1 :], before[i + 1 :], strict=True))


def test_nothing_is_kept_where_no_gradient_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    forward = native._Call.forward
    monkeypatch.setattr(native._Call, "forward", lambda self, *a: calls.append(a[-1]) or forward(self, *a))
    cell, x = cells.LSTM(3, 4), torch.randn(2, 5, 3)
    with torch.no_grad():
        assert cell(x)[0].grad_fn is None
    cell(x)
    cell.requires_grad_(False)(x)
    assert calls == [False, True, False]


def test_weights_changed_before_the_gradient_are_refused() -> None:
    cell = cells.GRU(3, 4)
    y, _ = cell(torch.randn(2, 5, 3))
    with torch.no_grad():
        cell.weight_hh += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_copies_modes_and_other_kinds() -> None:
    torch.manual_seed(0)
    cell, x = cells.GRU(3, 8), torch.randn(2, 5, 3)
    y = cell(x)[0].detach()
    twin = copy.deepcopy(cell)
    twin.load_state_dict(cell.state_dict())
    with torch.no_grad():
        assert torch.equal(twin(x)[0], y)
    with torch.inference_mode():
        assert torch.equal(cell(x)[0], y)
    half = copy.deepcopy(cell).to(torch.bfloat16)(x.to(torch.bfloat16))[0]
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), y, atol=0.05)
    with torch.autocast("cpu"):
        assert torch.allclose(cell(x)[0].float(), y, atol=0.05)
    gradient = torch.func.grad(lambda x: cell(x)[0].sum())(x)
    assert torch.allclose(gradient, torch.autograd.grad(cell(x.requires_grad_())[0].sum(), x)[0], atol=1e-6)


def test_only_torch_leaves_the_kernels_out() -> None:
    problem = Problem("gru", (2, 3, 4, 5))
    with ops.only("torch"):
        assert not is_ours(problem.run())
    assert is_ours(problem.run())


@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
@pytest.mark.parametrize(("B", "H"), [(1, 80), (5, 80), (16, 80), (1, 300), (5, 300), (16, 300)])
def test_threads_share_rows_or_units(B: int, H: int, cell: str) -> None:
    """Rows where there are many, units where there are few or where the weights are large: see csrc/batch.h."""
    before = torch.get_num_threads()
    problem = Problem(cell, (B, 80 if B == 1 else 16, 8, H), torch.float32)
    found = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            outputs = problem.run(B > 1, True)
            found.append([*outputs, *problem.gradients(outputs)])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert_near(found[0], other, 1e-5)


def test_many_callers_at_once() -> None:
    problem = Problem("gru", (8, 50, 8, 64), torch.float32)
    expected = problem.gradients(problem.run())
    found: list[list[Tensor]] = []
    callers = [threading.Thread(target=lambda: found.append(problem.gradients(problem.run()))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 4
    for one in found:
        assert_near(one, expected, 1e-6)


def _child(queue: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)
    queue.put([t.detach().numpy() for t in Problem("lstm", (8, 50, 8, 64), torch.float32).run()])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    expected = Problem("lstm", (8, 50, 8, 64), torch.float32).run()
    torch.set_num_threads(before)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue,))
    child.start()
    found = queue.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    assert_near([torch.from_numpy(t) for t in found], [t.detach() for t in expected], 1e-6)


@pytest.mark.filterwarnings("ignore:.*grad attribute of a Tensor that is not a leaf:UserWarning")  # dynamo's own doing
def test_inside_a_compiled_model() -> None:
    torch.manual_seed(0)
    cell, x = cells.GRU(3, 8), torch.randn(2, 5, 3)
    compiled = torch.compile(lambda x: cell(x)[0] * 2, backend="eager")
    assert torch.allclose(compiled(x), cell(x)[0] * 2, atol=1e-6)


def test_definition_from_the_end() -> None:
    """What `backwards` means, by hand: each row, cut at its resets, turned round and read from the initial state."""
    problem = Problem("gru", (3, 7, 2, 4))
    y, h = problem.run(True, True, True)
    for row, (n, resets) in enumerate(zip(problem.lengths.tolist(), problem.reset, strict=True)):
        begins = sorted({0, *(t for t in range(n) if resets[t])})
        state, after = problem.state[0][row : row + 1], problem.state[0][row]
        for begin, end in zip(begins[::-1], [n, *begins[:0:-1]], strict=True):
            piece = problem.x[row : row + 1, begin:end].flip(1)
            out, (last, _) = ref.run("gru", piece, (state, ()), problem.w, (state, ()))
            assert torch.allclose(y[row, begin:end], out[0].flip(0))
            state, after = problem.initial[0][row : row + 1], last[0]
        assert torch.allclose(h[row], after if n else problem.state[0][row])
        assert (y[row, n:] == 0).all()


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("build", [cells.Elman, cells.GRU, cells.LSTM])
def test_second_derivatives_of_a_carried_and_learned_state(build, resets: bool) -> None:
    """One tensor may stand for several arguments: the initial state, and a state that comes of the same weights."""
    torch.manual_seed(0)
    cell = build(2, 3, initial="learned").double()
    x = torch.randn(2, 8, 2, dtype=torch.float64)
    reset = torch.arange(8).expand(2, 8) == 3 if resets else None

    def second() -> list[Tensor]:
        _, state = cell(x)
        y, _ = cell(x, state, reset=reset)
        first = torch.autograd.grad(y.square().sum(), list(cell.parameters()), create_graph=True)
        return [*first, *torch.autograd.grad(sum(g.square().sum() for g in first), list(cell.parameters()))]

    ours = second()
    with ops.reference():
        assert_near([g.detach() for g in ours], [g.detach() for g in second()], 1e-10)


def test_lengths_changed_afterwards_are_not_seen() -> None:
    problem = Problem("gru", (3, 6, 2, 5))
    outputs = problem.run(True, True)
    first = problem.gradients(outputs, retain_graph=True)
    problem.lengths.fill_(6)
    problem.reset.fill_(False)
    derived = problem.gradients(outputs, create_graph=True)  # by the definition
    assert_near([g.detach() for g in derived], first, 1e-12)
    assert all(torch.equal(a, b) for a, b in zip(first, problem.gradients(outputs), strict=True))


FORKED = """
import os, torch
from clew import cells
torch.set_num_threads(2)
cell, x = cells.LSTM(64, 64), torch.zeros(16, 50, 64)
torch.ones(2000, 2000).exp()  # a team of torch's, before any pass of ours
child = os.fork()
if child == 0:  # large operations of torch's own would wait here for ever
    cell(x)
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_before_the_first_pass() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["0"], done.stderr


def test_memory_of_inference_is_not_that_of_training() -> None:
    problem = Problem("lstm", (16, 40, 8, 64), torch.float32)
    with torch.inference_mode():
        problem.run()
    problem.gradients(problem.run())


def test_a_state_of_wrong_size_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"LSTM: c must be \(4, 5\)"):
        cells.LSTM(3, 5)(torch.zeros(4, 9, 3), cells.LSTM(3, 5).init_state(4)._replace(c=torch.zeros(1, 5)))
