"""Derivatives against finite differences: first and second, of every cell and option; forward mode right or refused."""

from __future__ import annotations

import pytest
import torch
from configurations import CONFIGURATIONS, RECURRENT, SINGLE, build
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from clew import ops, tree

B, T = 2, 3
COMPOSED = [name for name in CONFIGURATIONS if name not in SINGLE]
# Every entry of the Jacobian, and not its product with random vectors.
WHOLE = [name for name in SINGLE if name in ("lstm: everything", "elman: defaults", "gru: defaults")]
# ReLU has a kink, which finite differences step over; the seed keeps clear of it.


def problem(name: str, **options):
    """The pass as a function of (x, state's leaves, parameters), and where to differentiate it."""
    module = build(name, seed=3).double().eval()
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(B, T, module.input_size, generator=generator, dtype=torch.float64)
    state = module.init_state(B) if name in RECURRENT else ()
    leaves = list(tree.leaves(state))  # those that count stay as they are
    smooth = [leaf.is_floating_point() for leaf in leaves]
    drawn = [torch.randn(leaf.shape, generator=generator, dtype=torch.float64) for leaf in leaves]
    drawn = [leaf for leaf, moves in zip(drawn, smooth, strict=True) if moves]
    names = [key for key, _ in module.named_parameters()]

    def run(x, *rest):
        given = iter(rest)
        before = [next(given) if moves else leaf for leaf, moves in zip(leaves, smooth, strict=True)]
        parameters = dict(zip(names, given, strict=True))
        before = (tree.rebuild(state, iter(before)),) if name in RECURRENT else ()
        y, after = functional_call(module, parameters, (x, *before), options)
        return (y, *(leaf for leaf in tree.leaves(after) if leaf.requires_grad))

    points = [x, *drawn, *(p.detach().clone() for p in module.parameters())]
    return run, tuple(point.requires_grad_() for point in points)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_reference(name: str) -> None:
    run, points = problem(name)
    with ops.reference():
        assert gradcheck(run, points, fast_mode=name not in WHOLE)
        assert gradgradcheck(run, points, fast_mode=True, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_default_path(name: str) -> None:
    run, points = problem(name)
    assert gradcheck(run, points, fast_mode=True)


@pytest.mark.parametrize("name", [name for name in CONFIGURATIONS if "defaults" in name or name in COMPOSED])
def test_with_lengths_and_resets(name: str) -> None:
    reset = torch.tensor([[False, True, False], [False, False, False]])
    run, points = problem(name, lengths=torch.tensor([3, 1]), reset=reset)
    assert gradcheck(run, points, fast_mode=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # torch's own, in torch.func
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_forward_mode_is_right_or_refused(name: str, dtype: torch.dtype) -> None:
    """Never silently zero: the directional derivative equals the finite difference in float64, or an error says no."""
    module = build(name, seed=3).to(dtype).eval().requires_grad_(False)
    exact = build(name, seed=3).double().eval().requires_grad_(False)
    x, way = torch.randn(2, B, T, module.input_size, dtype=torch.float64)
    wanted = (exact(x + 1e-6 * way)[0] - exact(x - 1e-6 * way)[0]) / 2e-6
    try:
        _, found = torch.func.jvp(lambda x: module(x)[0], (x.to(dtype),), (way.to(dtype),))
    except (NotImplementedError, RuntimeError) as refused:
        assert "forward" in str(refused).lower()  # noqa: PT017
        with ops.reference():
            _, found = torch.func.jvp(lambda x: module(x)[0], (x.to(dtype),), (way.to(dtype),))
    torch.testing.assert_close(found.double(), wanted, atol=1e-4, rtol=1e-3)
