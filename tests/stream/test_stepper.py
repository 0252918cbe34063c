"""A Stepper gives the numbers of the model's own pass, whatever it is made of."""

from __future__ import annotations

import copy
import gc
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

import clew
from clew import tree
from clew.cells import GLA, GRU, LSTM, RECURRENCES, Bidirectional, Elman, Pointwise, Recurrence, Residual, RetNet, Stack
from clew.cells.pool import POOLS, Pool
from clew.errors import ClewError, NotCausalError, ShapeError
from clew.models import Single
from clew.models.anchored import Anchored
from clew.models.embed import Units
from clew.models.heads.classes import ClassHead
from clew.models.heads.forecast import ForecastHead
from clew.models.heads.numbers import NumberHead
from clew.ops import native
from clew.stream import Stepper

INFO = native.native_info() or {"instruction_sets": []}
SETS = INFO["instruction_sets"]
pytestmark = pytest.mark.skipif(not SETS, reason="the compiled part is not there, as there is no C++ compiler")


class Smallest(Pool):
    """A pool that Clew does not have."""

    def terms(self, x: torch.Tensor) -> torch.Tensor:
        return -x


class Odd(nn.Module):
    """What nobody writes: places by number, in place, with another scale, padded and cut."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[..., torch.tensor([4, 0, 1, 2, 3])]
        y = torch.zeros_like(x)
        y[..., 1:] += torch.sub(x[..., 1:], x[..., :-1], alpha=3)
        y = torch.where(y > 0.1, y.pow(2), y.clamp(-1, 0.05)).exp2()
        return nn.functional.pad(y.mT.mT, (1, -1), value=0.5) / y.abs().amax(-1, keepdim=True)


class ManyMeans(Recurrence):
    """More numbers than are worked on at once, each a mean that goes on beside others."""

    def __init__(self) -> None:
        super().__init__(4, 4096)
        self.weight, self.beside = nn.Parameter(torch.randn(4, 3 * 4096)), nn.Parameter(torch.randn(64, 1))

    def init_state(self, batch_size: int, context: object = None) -> torch.Tensor:
        return torch.zeros(batch_size, 64, 64)

    def step(self, x: torch.Tensor, state: torch.Tensor, context: object = None):
        mean = (x @ self.weight).view(-1, 64, 64, 3).mean(-1)
        y = torch.tanh(mean * self.beside + self.beside) + state
        return y.flatten(1), 0.5 * y


def anchored(lag: int, levels: bool) -> Single:
    """A forecaster of the next 3 steps of the first 2 of 3 columns."""
    inner = Stack(LSTM(6 if levels else 3, 9), Pointwise(nn.Linear(9, 6), 9, 6))
    scale = torch.tensor([0.5, 2.0, 1.0])
    return Single(Anchored(inner, 3, lag, scale, 3, 2, levels), ForecastHead(3, 2, torch.ones(2)))


MODELS = {
    "elman": lambda: Elman(3, 5),
    "relu": lambda: Elman(7, 33, nonlinearity="relu"),
    "gru": lambda: GRU(3, 5),
    "gru, no bias": lambda: GRU(20, 48, bias=False),
    "lstm": lambda: LSTM(3, 5),
    "lstm, learned start": lambda: LSTM(16, 64, initial="learned"),
    "lstm, recurrent dropout": lambda: LSTM(4, 6, recurrent_dropout=0.3).eval(),
    "stack": lambda: Stack(LSTM(3, 8), GRU(8, 17), Elman(17, 4), dropout=0.1).eval(),
    "residual": lambda: Stack(
        LSTM(3, 8), Residual(GRU(8, 8), "layer"), Residual(LSTM(8, 8), "rms"), Pointwise(nn.LayerNorm(8), 8)
    ),
    "linear": lambda: Stack(GRU(3, 8), Pointwise(nn.Linear(8, 2), 8, 2)),
    "elman, all options": lambda: Elman(3, 5, layer_norm=True, zoneout=0.2, recurrent_dropout=0.1).eval(),
    "relu, zoneout": lambda: Elman(4, 18, nonlinearity="relu", zoneout=0.3).eval(),
    "gru, all options": lambda: GRU(3, 17, layer_norm=True, zoneout=0.2, recurrent_dropout=0.1).eval(),
    "gru, norm, no bias": lambda: GRU(3, 6, bias=False, layer_norm=True),
    "lstm, projection": lambda: LSTM(3, 20, projection=7),
    "lstm, all options": lambda: LSTM(
        3, 9, projection=4, layer_norm=True, zoneout=0.1, zoneout_cell=0.4, recurrent_dropout=0.2, initial="learned"
    ).eval(),
    **{f"{name} pool": (lambda pool=pool: Stack(GRU(3, 9), pool(9))) for name, pool in POOLS.items()},
    **{
        name: (lambda cell=cell: cell(5, 8))
        for name, cell in RECURRENCES.items()
        if name not in ("elman", "gru", "lstm")
    },
    "heads": lambda: Stack(RetNet(5, 12, heads=3), GLA(12, 8, heads=2)),
    "a pool of its own": lambda: Stack(GRU(3, 5), Smallest(5)),
    "a block with an MLP": lambda: Residual(RECURRENCES["mamba"](6, 6), "rms", mlp=2.0),
    "many means": ManyMeans,
    "odd modules": lambda: Stack(GRU(3, 5), Pointwise(Odd(), 5), Pointwise(nn.Hardtanh(), 5)),
    "in double precision": lambda: Stack(LSTM(3, 8), RECURRENCES["gla"](8, 8)).double(),
    "last value": lambda: anchored(1, True),
    "last season": lambda: anchored(4, False),
    "classes": lambda: Single(Stack(Pointwise(Units(11, 6), 1, 6), LSTM(6, 9)), ClassHead(9, 11)),
    "numbers": lambda: Single(Stack(GRU(3, 9)), NumberHead(9, 2)),
    "forecast": lambda: Single(Stack(LSTM(2, 9), Pointwise(nn.Linear(9, 6), 9, 6)), ForecastHead(3, 2, torch.ones(2))),
}
TEXT = ("classes",)


def sequences(name: str, model, B: int, T: int = 9) -> torch.Tensor:
    body = model.body if isinstance(model, Single) else model
    if name in TEXT:
        return torch.randint(0, 11, (B, T, 1))
    return torch.randn(B, T, body.input_size)


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("B", [1, 7])
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_models_own_pass(name: str, B: int, instruction_set: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    native._native.use(instruction_set)
    try:
        stepper = Stepper(model, B)
    finally:
        native._native.use(SETS[0])
    x = sequences(name, model, B)
    with torch.no_grad():
        y, after = copy.deepcopy(model).float()(x)
    # Normalised gates let rounding grow from step to step: either pass is then up to 2e-6 off one in double precision.
    near = 8e-6 if "all options" in name else 2e-6
    for t in range(x.shape[1]):
        out = stepper.step(x[:, t] if t % 2 else x[:, t].numpy())
        assert out.shape == y[:, t].shape
        np.testing.assert_allclose(out, y[:, t].numpy(), atol=near)
    for ours, theirs in zip(tree.leaves(stepper.state), tree.leaves(after), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), atol=near, rtol=0)
    assert type(stepper.state) is type(after)


@pytest.mark.parametrize("name", MODELS)
def test_state_is_read_and_written(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]().float()
    x = sequences(name, model, 2)
    with torch.no_grad():
        y, _ = model(x)
        _, middle = model(x[:, :4])
    stepper = Stepper(model, 2)
    stepper.state = middle
    np.testing.assert_allclose(stepper.step(x[:, 4]), y[:, 4].numpy(), atol=2e-6)
    kept = stepper.state
    first = stepper.step(x[:, 5])
    stepper.state = kept
    np.testing.assert_array_equal(stepper.step(x[:, 5]), first)
    stepper.reset()
    np.testing.assert_allclose(stepper.step(x[:, 0]), y[:, 0].numpy(), atol=2e-6)
    stepper.reset([1])
    again = stepper.step(x[:, 0])
    np.testing.assert_allclose(again[1], y[1, 0].numpy(), atol=2e-6)


@pytest.mark.parametrize(("weights", "bound"), [("float32", 1e-5), ("bfloat16", 0.05), ("int8", 0.1)])
@pytest.mark.parametrize("name", ["gru", "lstm, learned start", "stack", "residual", "classes"])
def test_weights_kept_smaller(name: str, weights: Literal["float32", "bfloat16", "int8"], bound: float) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    stepper = Stepper(model, 3, weights)
    before = stepper.state
    error = stepper.error(sequences(name, model, 3, 30))
    assert error <= bound
    assert (error > 1e-5) == (weights != "float32")
    assert all(torch.equal(a, b) for a, b in zip(tree.leaves(before), tree.leaves(stepper.state), strict=True))


def test_run_works_in_place() -> None:
    model = GRU(3, 5)
    stepper, other = Stepper(model, 2), Stepper(model, 2)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    stepper.x[...] = x
    stepper.run()
    np.testing.assert_array_equal(stepper.y, other.step(x))


def test_weights_are_those_of_the_moment() -> None:
    model, x = GRU(3, 5), torch.randn(1, 3)
    stepper = Stepper(model)
    before = Stepper(model).step(x)
    with torch.no_grad():
        model.weight_ih.zero_()
    np.testing.assert_array_equal(stepper.step(x), before)
    assert np.abs(Stepper(model).step(x) - before).max() > 1e-3


def test_a_trained_forecaster_steps(series_file, tmp_path) -> None:
    clew.train(series_file, tmp_path / "run", steps=20, width=6, progress=False)
    model = clew.load(tmp_path / "run").model
    x = torch.randn(2, 30, model.body.input_size)
    with torch.no_grad():
        y, _ = model(x)
    stepper = Stepper(model, 2)
    ours = np.stack([stepper.step(x[:, t]) for t in range(30)], 1)
    np.testing.assert_allclose(ours, y.numpy(), atol=1e-5 * float(y.abs().max()))


class Refused(nn.Module):
    def __init__(self, of) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.of(x)


def test_refusals() -> None:
    with pytest.raises(NotCausalError):
        Stepper(Single(Bidirectional(GRU(2, 3), GRU(2, 3)), NumberHead(6)))
    with pytest.raises(ClewError, match="no operation for torch's 'sort'"):
        Stepper(Stack(GRU(3, 5), Pointwise(Refused(lambda x: x.sort().values), 5)))
    with pytest.raises(ClewError, match="looks at the numbers"):
        Stepper(Stack(GRU(3, 5), Pointwise(Refused(lambda x: x if x.sum() > 0 else -x), 5)))
    with pytest.raises(ClewError, match="complex"):
        Stepper(Stack(GRU(3, 5), Pointwise(Refused(lambda x: (x + 1j).abs()), 5)))
    with pytest.raises(ClewError, match="unknown weights 'int4'"):
        Stepper(GRU(3, 5), 1, "int4")  # pyright: ignore[reportArgumentType]
    stepper = Stepper(GRU(3, 5), 2)
    with pytest.raises(ValueError, match="shape"):
        stepper.step(np.zeros((2, 4), np.float32))
    with pytest.raises(ShapeError, match="the state must be"):
        stepper.state = GRU(3, 5).init_state(3)
    text = Stepper(MODELS["classes"]())
    with pytest.raises(IndexError, match="no unit 11"):
        text.step(np.array([[11]]))


def test_without_the_compiled_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_native", None)
    with pytest.raises(ClewError, match="compiled part"):
        Stepper(GRU(3, 5))
    assert GRU(3, 5)(torch.zeros(1, 2, 3))[0].shape == (1, 2, 5)


def test_a_model_in_training_steps_as_outside_it_and_stays_in_training() -> None:
    model = LSTM(3, 5, recurrent_dropout=0.5, zoneout=0.3).train()
    stepper, x = Stepper(model), torch.randn(1, 6, 3)
    assert stepper.error(x) < 1e-5
    assert model.training
    assert (list(tree.leaves(stepper.state))[-1] == 1).all()


def test_a_step_outlives_its_stepper() -> None:
    run = Stepper(GRU(3, 5)).run
    gc.collect()
    run()
