"""The recurrences that are linear in their state: kernels against the definition, and the definition against the
equations; on every instruction set that the machine has."""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import product

import pytest
import torch
from problems import Problem, assert_near
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.fx.experimental.proxy_tensor import make_fx

from clew import ops
from clew.errors import ShapeError
from clew.ops import native, native_linear

INFO = native.native_info() or {"instruction_sets": []}
SETS = INFO["instruction_sets"]
compiled = pytest.mark.skipif(not SETS, reason="the compiled part is not there, as there is no C++ compiler")
STEPS = [1, 5, 32, 33, 70]  # about the chunks of the gradient's pass


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest):
    native.compiled().use(request.param)
    yield request.param
    native.compiled().use(SETS[0])


@pytest.fixture
def sets():
    """Every instruction set, to be chosen one after the other."""
    yield SETS
    native.compiled().use(SETS[0])


SMALL = [
    "linear 5",
    "complex 3",
    "constant 3",
    "maximum 5",
    "selective 3 2",
    "matrix 2 3 1",
    "matrix 2 3 2",
    "delta 2 3 1",
]
SMALL += ["matrix 2 3 1 4 2", "delta 2 3 1 2 1", "delta 2 3 2", "conv 3 1 1 0", "conv 2 4 0 1"]
LARGE = ["linear 37", "complex 19", "constant 19", "maximum 37", "selective 21 5", "selective 16 16", "matrix 3 5 1"]
LARGE += [
    "matrix 9 24 1",
    "matrix 16 40 1",
    "matrix 5 70 5",
    "matrix 4 32 4",
    "matrix 3 129 1",
    "matrix 9 24 1 6 2",
    "matrix 24 9 1 3 1",
    "matrix 4 8 4 4 2",
    "delta 5 17 5 4 2",
    "delta 5 70 1",
    "delta 16 33 16",
    "delta 3 16 3",
]
LARGE += ["conv 21 4 1 1", "conv 16 4 0 0", "conv 35 1 1 1", "conv 5 7 1 0"]


def is_ours(outputs: list[Tensor]) -> bool:
    return type(outputs[0].grad_fn).__name__ == "_RunBackward"


@compiled
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", LARGE)
def test_numbers_and_gradients(name: str, dtype: torch.dtype, sets: list[str]) -> None:
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    for T, threads, ragged, resets in product(STEPS, (1, 2), (False, True), (False, True)):
        torch.set_num_threads(threads)
        problem = Problem(name, 1 if threads == 2 else 3, T, dtype)
        with ops.reference():  # the slow part, once for all instruction sets
            theirs = problem.run(ragged, resets)
            assert not is_ours(theirs)
        wanted = problem.gradients(theirs)
        for instruction_set in sets:
            native.compiled().use(instruction_set)
            ours = problem.run(ragged, resets)
            assert is_ours(ours)
            assert_near(ours, theirs, tolerance)
            assert_near(problem.gradients(ours), wanted, tolerance)


@compiled
@pytest.mark.parametrize("name", ["linear 600", "constant 300", "maximum 600", "selective 70 8", "conv 700 4 1 1"])
def test_threads_share_the_width_of_one_row(name: str) -> None:
    problem = Problem(name, 1, 40)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        outputs = problem.run(False, True)
        found.append([*outputs, *problem.gradients(outputs)])
    assert_near(found[1], found[0], 1e-13)


@pytest.mark.parametrize("name", SMALL)
def test_derivatives(name: str) -> None:
    """First by finite differences on either way, second by those of the definition."""
    problem = Problem(name, 2, 4)
    for ragged, resets in product((False, True), (False, True)):
        how = {"lengths": problem.lengths if ragged else None, "reset": problem.reset if resets else None}
        run = functools.partial(problem.scan, **how)
        assert gradcheck(run, problem.inputs)
        assert gradgradcheck(run, problem.inputs, fast_mode=True)
        with ops.reference():
            assert gradcheck(run, problem.inputs, fast_mode=True)


@compiled  # without a step the definition's outputs have no graph
@pytest.mark.parametrize(("B", "T"), [(2, 0), (0, 3), (0, 0)])
@pytest.mark.parametrize("name", SMALL)
def test_no_steps_and_no_rows(name: str, B: int, T: int) -> None:
    problem = Problem(name, B, T)
    y, after = problem.run()
    assert y.shape[:2] == (B, T)
    assert torch.equal(after, problem.inputs[problem.state])
    assert all((g == 0).all() for g in problem.gradients([y]))


@pytest.mark.parametrize("name", SMALL)
def test_padding_and_resets_by_hand(name: str) -> None:
    """Each piece alone; NaN behind a length and before a reset reaches nothing."""
    problem = Problem(name, 1, 6)
    over_time = {t for t in range(len(problem.inputs)) if problem.inputs[t].shape[:2] == (1, 6)}

    def cut(begin: int, end: int, start: Tensor | None) -> list[Tensor]:
        inputs = [t[:, begin:end] if i in over_time else t for i, t in enumerate(problem.inputs)]
        if start is not None:
            inputs[problem.state] = start
        return list(problem.scan(*inputs))

    first, _ = cut(0, 2, None)
    begin = problem.inputs[problem.state]
    second, last = cut(2, 5, torch.zeros_like(begin) if name.startswith("conv") else problem.inputs[problem.state + 1])
    with torch.no_grad():
        for i in over_time:
            problem.inputs[i][:, 5:] = torch.nan
    reset = torch.tensor([[False, False, True, False, False, True]])
    y, after = problem.scan(*problem.inputs, lengths=torch.tensor([5]), reset=reset)
    expected = torch.cat([first, second, torch.zeros_like(y[:, :1])], 1)
    assert_near([y, after], [expected, last], 1e-12)
    gradients = torch.autograd.grad((y.sum(), after.sum()), problem.inputs)
    assert all(g.isfinite().all() for g in gradients)
    assert all((gradients[i][:, 5:] == 0).all() for i in over_time)


@pytest.mark.parametrize("exact", [0.0, 1.0])
@pytest.mark.parametrize("name", ["linear 5", "matrix 2 3 1", "matrix 2 3 2", "delta 2 3 2"])
def test_decays_of_exactly_0_and_1(name: str, exact: float) -> None:
    """What is kept in full, or not at all, is so to the last bit; no gradient divides by a decay."""
    problem = Problem(name, 2, 40)
    decay = 0 if name.startswith("linear") else 3
    with torch.no_grad():
        problem.inputs[decay].fill_(exact)
        if name.startswith("delta"):
            problem.inputs[-1].zero_()  # nothing is erased
        for i in (1,) if name.startswith("linear") else (1, 2):
            problem.inputs[i][:, 1:] = 0.0  # nothing comes in any more
    with torch.no_grad():
        after_one = problem.scan(*(t[:, :1] if t.shape[:2] == (2, 40) else t for t in problem.inputs))[1]
        _, after = problem.run()
    assert torch.equal(after, after_one if exact else torch.zeros_like(after))
    ours = problem.run()
    with ops.reference():
        theirs = problem.run()
    assert_near(problem.gradients(ours), problem.gradients(theirs), 1e-12)


@compiled
def test_single_precision_over_long_times() -> None:
    """Decays near 0 and near 1 at T = 4,096, against double precision. A step's rounding, 6e-8, adds up over as many
    steps as are remembered (1,000 for a decay of 0.999, all 4,096 for one of 1 - 1e-7: 2.5e-4), and in the gradient of
    what all steps share."""
    T = 4096
    for near, bound in ((1e-6, 1e-6), (0.5, 1e-5), (0.999, 6e-5), (1 - 1e-7, 2.5e-4)):
        worst = 0.0
        for name in ("linear 8", "matrix 4 16 1", "matrix 16 16 1", "matrix 4 16 4", "selective 16 4"):
            double, single = Problem(name, 1, T), Problem(name, 1, T, torch.float32)
            where = {"linear": 0, "matrix": 3}.get(name.split()[0])
            for problem in (double, single):
                with torch.no_grad():
                    if where is None:
                        problem.inputs[1].fill_(1.0)
                        problem.inputs[2].fill_(torch.tensor(near, dtype=torch.float64).log())
                    else:
                        problem.inputs[where].fill_(near)
            with torch.no_grad():  # the same numbers: what single precision cannot hold is not its arithmetic's error
                for to, of in zip(double.inputs, single.inputs, strict=True):
                    to.copy_(of)
            ours, exact = single.run(), double.run()
            numbers = [*ours, *single.gradients(ours)], [*exact, *double.gradients(exact)]
            for a, b in zip(*numbers, strict=True):
                a, b = a.detach().double(), b.detach()
                worst = max(worst, float((a - b).abs().max() / (1 + b.abs().max())))
        assert worst < bound, (near, worst)


@compiled
def test_nothing_of_the_size_of_all_states_is_there() -> None:
    """A selective scan keeps a state for every chunk, not for every step."""
    problem = Problem("selective 64 16", 2, 512, torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        problem.run()
    states = 2 * 64 * 16
    assert states * 512 // native_linear.CHUNK in kept
    assert max(kept) == 2 * 512 * 64  # x and dt


@compiled
def test_what_does_not_fit_is_refused() -> None:
    """What the kernels would read or write outside their memory by."""

    def refused(name: str, says: str, change: Callable[[Problem], object]) -> None:
        problem = Problem(name, 2, 4)
        how = change(problem)
        with pytest.raises(ShapeError, match=says):
            problem.scan(*problem.inputs, **(how if isinstance(how, dict) else {}))

    def other(i: int, *shape: int) -> Callable[[Problem], object]:
        return lambda problem: problem.inputs.__setitem__(i, torch.zeros(*shape, dtype=torch.float64))

    refused("matrix 3 5 1", "k must be", other(1, 2, 4, 2, 2))
    refused("matrix 3 5 1 3 2", "3 heads cannot share 2 keys", lambda problem: None)
    refused("matrix 4 5 3", "one decay for a head", lambda problem: None)
    refused("complex 3", "a must be", other(0, 2, 4, 3, 3))
    refused("conv 3 4 1 1", "4 taps has a past of 3", other(1, 2, 2, 3))
    refused("linear 3", "lengths must be", lambda problem: {"lengths": torch.tensor([5, 1])})
    refused("linear 3", "lengths must be", lambda problem: {"lengths": torch.tensor([-1, 1])})
    refused("linear 3", "lengths must be", lambda problem: {"lengths": torch.tensor([1])})
    refused("linear 3", "reset must be bool", lambda problem: {"reset": torch.zeros(2, 4)})
    refused("linear 3", "reset must be bool", lambda problem: {"reset": torch.zeros(4, dtype=torch.bool)})


@pytest.mark.parametrize("how", ["reference", "torch"])
def test_heads_that_do_not_share_keys_equally(how: str) -> None:
    problem = Problem("matrix 3 5 1 3 2", 2, 40)
    with ops.reference() if how == "reference" else ops.only("torch"), pytest.raises(ShapeError, match="cannot share"):
        problem.scan(*problem.inputs)


@compiled
@pytest.mark.parametrize("name", SMALL)
def test_one_input_at_a_time_needs_a_gradient(name: str) -> None:
    """Once and twice, for one output and for both; what nobody asks for is not missed."""
    for one, resets in product(range(len(Problem(name, 2, 3).inputs)), (False, True)):
        problem = Problem(name, 2, 3)
        problem.inputs = [t.detach().requires_grad_(i == one) for i, t in enumerate(problem.inputs)]
        wanted = problem.inputs[one]
        ours = problem.run(False, resets)
        with ops.reference():
            theirs = problem.run(False, resets)
        for of in ((0,), (1,), (0, 1)):
            found = []
            for outputs in (ours, theirs):
                loss = sum((outputs[i] ** 2).sum() for i in of)
                once = twice = torch.zeros_like(wanted)
                if loss.requires_grad:
                    once = torch.autograd.grad(loss, wanted, create_graph=True, allow_unused=True)[0]
                    once = torch.zeros_like(wanted) if once is None else once
                if once.requires_grad:
                    twice = torch.autograd.grad(once.sum(), wanted, retain_graph=True, allow_unused=True)[0]
                    twice = torch.zeros_like(wanted) if twice is None else twice
                found.append([once.detach(), twice])
            assert_near(*found, 1e-12)


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponentials_out_of_range(dtype: torch.dtype, instruction_set: str) -> None:
    """A decay of 0 is 0, an overflow shows, and silu of what is far below 0 is 0."""
    x, dt = torch.ones(1, 1, 4, dtype=dtype), torch.ones(1, 1, 4, dtype=dtype)
    A = torch.tensor([-1e4, -torch.inf, 1e4, 0.0], dtype=dtype)[:, None]
    B, h = torch.zeros(1, 1, 1, dtype=dtype), torch.full((1, 4, 1), 1e30, dtype=dtype)
    _, after = ops.selective_scan(x, dt, A, B, B, h, initial=h)
    assert after.flatten().tolist() == [0.0, 0.0, torch.inf, h[0, 3, 0].item()]
    far = torch.tensor([[[-1e38, -1000.0, 100.0]]], dtype=dtype, requires_grad=True)
    y, _ = ops.short_conv(far, torch.zeros(1, 0, 3, dtype=dtype), torch.ones(3, 1, dtype=dtype), silu=True)
    torch.testing.assert_close(y, torch.nn.functional.silu(far), atol=1e-30, rtol=1e-6)
    (gradient,) = torch.autograd.grad(y.sum(), far)
    torch.testing.assert_close(gradient.flatten(), torch.tensor([0.0, 0.0, 1.0], dtype=dtype), atol=1e-6, rtol=0)


@compiled
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, where it traces
def test_a_tracer_writes_torchs_operations_down() -> None:
    problem = Problem("delta 3 4 1", 2, 5)
    given = [t.detach() for t in problem.inputs]
    traced = make_fx(lambda *t: problem.scan(*t)[0])(*given)
    assert_near([traced(*given)], [problem.scan(*given)[0]], 1e-12)


@compiled
def test_lengths_and_resets_changed_afterwards_are_not_seen() -> None:
    problem = Problem("delta 5 7 1", 3, 40)
    outputs = problem.run(True, True)
    first = problem.gradients(outputs, retain_graph=True)
    problem.lengths.fill_(40)
    problem.reset.fill_(False)
    derived = problem.gradients(outputs, create_graph=True)  # by the definition
    assert_near([g.detach() for g in derived], first, 1e-12)
    assert all(torch.equal(a, b) for a, b in zip(first, problem.gradients(outputs), strict=True))


@compiled
def test_one_tensor_in_several_places() -> None:
    x = torch.rand(2, 6, 3, dtype=torch.float64, requires_grad=True)
    h = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    reset = torch.zeros(2, 6, dtype=torch.bool)
    reset[:, 2] = True

    def run(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return ops.linear_scan(x, x, h, initial=h, reset=reset)

    assert gradcheck(run, (x, h))
    assert gradgradcheck(run, (x, h))
