"""The chunked forms against the definition: every rule of time, lengths about the size of a chunk, extreme decays."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from clew.ops import algebra, chunked, chunked_matrix

CHUNK = chunked.CHUNK
WAYS = {
    "linear": (chunked.linear, algebra.linear),
    "complex": (chunked.linear, algebra.linear),
    "maximum": (chunked.maximum, algebra.maximum),
    "selective": (chunked.selective, algebra.selective),
    "matrix": (chunked_matrix.matrix, algebra.matrix),
    "delta": (chunked_matrix.matrix, algebra.matrix),
}
NAMES = ["linear", "complex", "maximum", "selective", "matrix 1", "matrix 3", "delta 1", "delta 3"]  # decays of a head
NAMES += ["matrix 1 3 4 4 2"]  # keys that pairs of heads share
DECAY = {"selective": 1, "matrix": 3, "delta": 3}  # its place among the inputs; 0 for the others
BOTH = {"ragged": True, "resets": True}


class Problem:
    """Random tensors of one case, and a pass over them either way."""

    def __init__(self, name: str, B: int, T: int, dtype: torch.dtype = torch.float64) -> None:
        self.name, *sizes = name.split()
        self.ours, self.theirs = WAYS[self.name]
        self.generator = torch.Generator().manual_seed(B + T)
        self.sizes = B, T
        tensors = [None if t is None else t.to(dtype) for t in getattr(self, self.name)(*map(int, sizes))]
        self.absent = [i for i, t in enumerate(tensors) if t is None]
        self.inputs = [t.requires_grad_() for t in tensors if t is not None]
        self.lengths = torch.randint(0, T + 1, (B,), generator=self.generator)
        self.lengths[:1] = T
        self.reset = torch.rand(B, T, generator=self.generator) < 0.1

    def draw(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=self.generator, dtype=torch.float64)

    def linear(self, *last: int) -> list[Tensor | None]:
        (B, T), N = self.sizes, (3, *last)
        return [self.draw(B, T, *N), self.draw(B, T, *N), self.draw(B, *N), self.draw(B, *N)]

    maximum = linear

    def complex(self) -> list[Tensor | None]:
        a, *others = self.linear(2)
        assert a is not None
        return [0.7 * a, *others]

    def selective(self, D: int = 3, N: int = 2) -> list[Tensor | None]:
        (B, T), draw = self.sizes, self.draw
        over_time = [draw(B, T, D), draw(B, T, D, low=0), draw(D, N, low=-3, high=0), draw(B, T, N), draw(B, T, N)]
        return [*over_time, draw(B, D, N), draw(B, D, N)]

    def matrix(self, W: int, K: int = 3, V: int = 4, H: int = 2, G: int = 2) -> list[Tensor | None]:
        (B, T), draw = self.sizes, self.draw
        over_time = [draw(B, T, G, K), draw(B, T, G, K), draw(B, T, H, V), draw(B, T, H, W, low=0)]
        return [*over_time, None, None, draw(B, H, K, V), draw(B, H, K, V)]

    def delta(self, W: int) -> list[Tensor | None]:
        q, k, v, w, _, _, *states = self.matrix(W)
        assert k is not None
        key = torch.nn.functional.normalize(k, dim=-1)
        return [q, key, v, w, -0.9 * key, key.clone(), *states]

    def run(
        self,
        way: Callable[..., Any],
        inputs: list[Tensor] | None = None,
        /,
        *,
        ragged: bool = False,
        resets: bool = False,
    ) -> list[Tensor]:
        tensors: list[Tensor | None] = list(self.inputs if inputs is None else inputs)
        for place in self.absent:
            tensors.insert(place, None)
        return list(way(*tensors, self.lengths if ragged else None, self.reset if resets else None))

    def gradients(self, outputs: list[Tensor], inputs: list[Tensor] | None = None) -> list[Tensor]:
        inputs = self.inputs if inputs is None else inputs
        along = [torch.sin(torch.arange(t.numel(), dtype=t.dtype)).view(t.shape) for t in outputs]
        found = torch.autograd.grad(outputs, inputs, along, allow_unused=True)
        return [torch.zeros_like(t) if g is None else g for g, t in zip(found, inputs, strict=True)]

    def over_time(self) -> list[int]:
        return [i for i, t in enumerate(self.inputs) if t.shape[:2] == self.sizes]


def assert_near(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        gap = (a.detach().double() - b.detach().double()).abs()
        assert not a.numel() or gap.max() <= tolerance * (1 + b.detach().abs().max()), gap.max()


@pytest.mark.parametrize("T", [0, 1, 5, 8, 31])
@pytest.mark.parametrize("name", NAMES)
def test_numbers_and_gradients(name: str, T: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """About chunks of 8."""
    monkeypatch.setattr(chunked, "CHUNK", 8)
    monkeypatch.setattr(chunked_matrix, "CHUNK", 8)
    problem = Problem(name, 3, T)
    for ragged, resets in product((False, True), (False, True)):
        ours, theirs = (problem.run(way, ragged=ragged, resets=resets) for way in (problem.ours, problem.theirs))
        assert_near(ours, theirs, 1e-12)
        if T:
            assert_near(problem.gradients(ours), problem.gradients(theirs), 1e-12)


@pytest.mark.parametrize("T", [CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
@pytest.mark.parametrize("name", NAMES)
def test_at_the_size_of_chunks(name: str, T: int) -> None:
    assert chunked_matrix.CHUNK == CHUNK
    problem = Problem(name, 3, T)
    ours, theirs = (problem.run(way, **BOTH) for way in (problem.ours, problem.theirs))
    assert_near(ours, theirs, 1e-12)
    assert_near(problem.gradients(ours), problem.gradients(theirs), 1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_derivatives(name: str) -> None:
    problem = Problem(name, 2, 5)

    def run(*t: Tensor) -> tuple[Tensor, ...]:
        return tuple(problem.run(problem.ours, list(t), **BOTH))

    assert gradcheck(run, problem.inputs, fast_mode=True)
    assert gradgradcheck(run, problem.inputs, fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_nan_stays_in_its_piece(name: str) -> None:
    """Not in another row, behind its length, before it, or past a reset; neither in numbers nor in gradients."""
    T, begin, end, broken = 100, 40, 90, 30
    problem = Problem(name, 3, T)
    problem.lengths = torch.tensor([T, end, T])
    problem.reset = torch.zeros(3, T, dtype=torch.bool)
    problem.reset[1, begin] = problem.reset[2, 0] = True
    poisoned = [t.detach().clone() for t in problem.inputs]
    for i in problem.over_time():
        poisoned[i][0, broken:] = poisoned[i][1, :begin] = poisoned[i][1, end:] = torch.nan
    poisoned[-2][1:] = torch.nan  # the states before the resets
    poisoned[-1][0] = torch.nan  # what no reset restores
    poisoned = [t.requires_grad_() for t in poisoned]

    def sound(outputs: list[Tensor]) -> list[Tensor]:
        y, after = outputs
        return [y[0, :broken], y[1, begin:], y[2], after[1:]]

    ours, theirs = problem.run(problem.ours, poisoned, **BOTH), problem.run(problem.theirs, **BOTH)
    assert_near(sound(ours), sound(theirs), 1e-12)
    if name != "maximum":  # the larger of NaN and a number is the number
        assert ours[0][0, broken:].isnan().all()
        assert ours[1][0].isnan().all()
    gradients = problem.gradients(sound(ours), poisoned), problem.gradients(sound(theirs))
    for i, (a, b) in enumerate(zip(*gradients, strict=True)):
        if i in problem.over_time():
            a, b = torch.cat([a[1, begin:], a[2]]), torch.cat([b[1, begin:], b[2]])
        elif i >= len(problem.inputs) - 2:
            a, b = a[2], b[2]  # row 1 itself went through NaN
        else:  # A, which all rows share
            continue
        assert_near([a], [b], 1e-12)


@pytest.mark.parametrize("B", [0, 2])
@pytest.mark.parametrize("name", NAMES)
def test_rows_without_steps_keep_their_state(name: str, B: int) -> None:
    problem = Problem(name, B, 9)
    problem.lengths.zero_()
    y, after = problem.run(problem.ours, **BOTH)
    assert not y.any()
    assert torch.equal(after, problem.inputs[-2])
    gradients = problem.gradients([y, after])
    assert not any(gradients[i].any() for i in problem.over_time())


def extreme(kind: float | str, like: Tensor) -> Tensor:
    """Decays, the same at all steps or drawn one by one."""
    if not isinstance(kind, str):
        return torch.full_like(like, kind)
    drawn = torch.tensor([0.0, 1e-30, 1e-6, 0.5, 0.999, 1 - 1e-7, 1.0, 1.0, 1.0], dtype=like.dtype)
    return drawn[torch.randint(len(drawn), like.shape, generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(("kind", "bound"), [(1e-30, 5e-7), (1 - 1e-7, 2e-5), ("drawn", 2e-6)])
@pytest.mark.parametrize("name", NAMES)
def test_single_precision_with_extreme_decays(name: str, kind: float | str, bound: float) -> None:
    """The bounds are those of rounding, 6e-8 a step, over as many steps as are remembered: products of decays that
    overflow or vanish, and quotients of them, would show."""
    double, single = Problem(name, 2, 1000), Problem(name, 2, 1000, torch.float32)
    place = DECAY.get(double.name, 0)
    with torch.no_grad():
        decay = extreme(kind, double.inputs[place])
        if name == "selective":
            double.inputs[2].fill_(-1.0)
        if name == "complex":
            decay = torch.stack([decay[..., 0], torch.zeros_like(decay[..., 0])], -1)
        if name in ("maximum", "selective"):
            decay = decay.log().clamp(min=-1e4) * (1 if name == "maximum" else -1)
        double.inputs[place].copy_(decay)
        for to, of in zip(single.inputs, double.inputs, strict=True):
            to.copy_(of)
            of.copy_(to)  # what single precision cannot hold is not its arithmetic's error
        exact = double.run(double.theirs, resets=kind == "drawn")
    ours, again = (p.run(p.ours, resets=kind == "drawn") for p in (single, double))
    assert_near(again, exact, 1e-12)
    assert_near(ours, exact, bound)
    assert_near(single.gradients(ours), double.gradients(again), bound)


class Watch(TorchDispatchMode):
    """Counts the calls of torch, but for views, and measures the largest tensor that they give."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.calls += not func.is_view
        for t in out if isinstance(out, tuple | list) else [out]:
            if isinstance(t, Tensor):
                self.largest = max(self.largest, t.untyped_storage().nbytes() // t.element_size())
        return out


@pytest.mark.parametrize("name", NAMES)
def test_fewer_calls_than_steps(name: str) -> None:
    problem = Problem(name, 2, 2048)
    with Watch() as watch, torch.no_grad():
        problem.run(problem.ours, **BOTH)
    assert watch.calls < (2500 if name == "selective" else 500)  # the definition makes more than 10,000


def test_never_all_states_of_a_selective_scan() -> None:
    B, T, D, N = 2, 1024, 16, 32
    problem = Problem(f"selective {D} {N}", B, T)
    kept = []
    with Watch() as watch:
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            outputs = problem.run(problem.ours)
        problem.gradients(outputs)
    assert watch.largest <= B * CHUNK * D * N
    assert sum(kept) < B * T * D * N / 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_narrow_types_are_rounded_once(name: str, dtype: torch.dtype) -> None:
    narrow, wide = Problem(name, 3, 70, dtype), Problem(name, 3, 70)
    with torch.no_grad():
        for to, of in zip(wide.inputs, narrow.inputs, strict=True):
            to.copy_(of)
    ours, exact = narrow.run(narrow.ours, **BOTH), wide.run(wide.theirs, **BOTH)
    assert all(t.dtype == dtype for t in ours)
    assert_near(ours, exact, torch.finfo(dtype).eps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        single = Problem(name, 3, 70, torch.float32)
        assert_near(single.run(single.ours, **BOTH), Problem(name, 3, 70).run(single.theirs, **BOTH), 1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, where it differentiates forwards
@pytest.mark.parametrize("name", NAMES)
def test_transforms(name: str) -> None:
    problem = Problem(name, 2, 9)
    given = tuple(t.detach() for t in problem.inputs)
    two = [torch.stack([t, t / 2]) for t in given]

    def found(way: Callable[..., Any]) -> list[Tensor]:
        def run(*t: Any) -> tuple[Tensor, ...]:
            return tuple(problem.run(way, list(t), **BOTH))

        gradients = torch.func.grad(lambda *t: sum(out.square().sum() for out in run(*t)), tuple(range(len(given))))
        return [*torch.vmap(run)(*two), *gradients(*given), *torch.func.jvp(run, given, given)[1]]

    assert_near(found(problem.ours), found(problem.theirs), 1e-12)
