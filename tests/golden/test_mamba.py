"""Mamba and Mamba-2 against transformers' and mambapy's, and against their equations written as loops.

The peers round parts of their arithmetic to float32, whatever the dtype. They are run so ("as they are", held to 1e-5)
and with that rounding taken out ("unrounded", held to 1e-10). mambapy's Mamba-2 does not run without a GPU.
"""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew import tree
from clew.cells.base import Recurrence
from clew.cells.mamba import Mamba, MambaState
from clew.cells.mamba2 import Mamba2, Mamba2State
from clew.errors import ClewError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    mambapy = pytest.importorskip("mambapy.mamba", reason="this peer is not installed")
    transformers = pytest.importorskip("transformers", reason="this peer is not installed")
    from transformers.models.mamba.modeling_mamba import MambaMixer
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

F64 = torch.float64
B, T, H = 3, 11, 6
NAMES = {  # ours: theirs
    Mamba: {
        "to_uz": "in_proj",
        "conv": "conv1d",
        "to_rbq": "x_proj",
        "to_dt": "dt_proj",
        "log_rate": "A_log",
        "skip": "D",
        "out": "out_proj",
    },
    Mamba2: {
        "to_zudt": "in_proj",
        "conv": "conv1d",
        "dt_bias": "dt_bias",
        "log_rate": "A_log",
        "skip": "D",
        "norm": "norm",
        "out": "out_proj",
    },
}
MAMBA = [
    {},
    {"state": 5, "expand": 1, "conv": 2, "rank": 3, "dt_max": 2.0, "bias": True},
    {"state": 3, "expand": 3, "dt_min": 0.1, "dt_max": 1.0, "conv_bias": False},
]
MAMBA2 = [
    {"heads": 2},
    {"state": 5, "expand": 3, "heads": 6, "groups": 3, "conv": 2, "dt_max": 2.0, "bias": True},
    {"state": 7, "heads": 4, "groups": 2, "dt_min": 0.2, "dt_max": 2.0, "dt_limit": (0.3, 0.9), "conv_bias": False},
]


@pytest.fixture(params=["as they are", "unrounded"])
def tolerance(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    if request.param == "as they are":
        return 1e-5
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    monkeypatch.setattr(
        torch.Tensor,
        "to",
        lambda self, *args, **named: self if args and args[0] is torch.float32 else to(self, *args, **named),
    )
    return 1e-10


def theirs_of(ours: Recurrence, theirs: nn.Module) -> dict[str, Tensor]:
    """Their parameters by our names: every one of both."""
    names = NAMES[type(ours)]
    dotted = {name: names[name.split(".")[0]] + name[len(name.split(".")[0]) :] for name, _ in ours.named_parameters()}
    parameters = dict(theirs.named_parameters())
    assert set(dotted.values()) == set(parameters)
    return {name: parameters[other] for name, other in dotted.items()}


def same_weights(ours: Recurrence, theirs: nn.Module) -> tuple[Recurrence, nn.Module]:
    """Both in float64 with their weights, moved off the round numbers they begin with."""
    ours, theirs = ours.to(F64), theirs.to(F64)
    with torch.no_grad():
        for name, other in theirs_of(ours, theirs).items():
            other += 0.2 * torch.randn_like(other)
            mine = ours.get_parameter(name)
            mine.copy_(other.view_as(mine))
    return ours, theirs


def config_of(options: dict, kind: type) -> Any:
    names = {
        "state": "state_size",
        "conv": "conv_kernel",
        "rank": "time_step_rank",
        "heads": "num_heads",
        "groups": "n_groups",
        "dt_min": "time_step_min",
        "dt_max": "time_step_max",
        "dt_limit": "time_step_limit",
        "conv_bias": "use_conv_bias",
        "bias": "use_bias",
    }
    given = {names.get(name, name): value for name, value in options.items()}
    if kind is transformers.Mamba2Config:
        given = {"n_groups": 1, "chunk_size": 4, **given}
        given["head_dim"] = H * given.get("expand", 2) // given["num_heads"]
    return kind(hidden_size=H, num_hidden_layers=1, **given)


def mamba_pair(options: dict, **how: Any) -> tuple[Recurrence, nn.Module, Any]:
    config = config_of(options, transformers.MambaConfig)
    for name, value in how.items():
        setattr(config, name, value)
    return *same_weights(Mamba(H, H, **options), MambaMixer(config, 0)), config


def mamba2_pair(options: dict) -> tuple[Recurrence, nn.Module, Any]:
    config = config_of(options, transformers.Mamba2Config)
    return *same_weights(Mamba2(H, H, **options), Mamba2Mixer(config, 0)), config


def assert_near(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(ours, theirs.to(ours.dtype), atol=tolerance, rtol=tolerance)


def assert_same(ours: Recurrence, theirs: nn.Module, tolerance: float) -> None:
    """Outputs, and gradients of the input and of every weight."""
    x = torch.randn(B, T, H, dtype=F64)
    x_ours, x_theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y_ours, y_theirs = ours(x_ours)[0], theirs(x_theirs)
    assert_near(y_ours, y_theirs, tolerance)
    mix = torch.randn_like(y_ours)
    (y_ours * mix).sum().backward()
    (y_theirs * mix).sum().backward()
    assert_near(x_ours.grad, x_theirs.grad, tolerance)
    for name, other in theirs_of(ours, theirs).items():
        mine = ours.get_parameter(name).grad
        assert_near(mine, other.grad.view_as(mine), tolerance)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("options", MAMBA)
def test_mamba_is_transformers(options: dict, parallel: bool, tolerance: float) -> None:
    ours, theirs, _ = mamba_pair(options, use_mambapy=parallel)
    assert_same(ours, theirs, tolerance)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("options", MAMBA)
def test_mamba_is_mambapys(options: dict, parallel: bool, tolerance: float) -> None:
    names = {"state": "d_state", "expand": "expand_factor", "conv": "d_conv", "rank": "dt_rank"}
    given = {names.get(name, name): value for name, value in options.items()}
    config = mambapy.MambaConfig(d_model=H, n_layers=1, pscan=parallel, **given)
    ours, theirs = same_weights(Mamba(H, H, **options), mambapy.MambaBlock(config))
    assert_same(ours, theirs, tolerance)
    xs, state = torch.randn(T, B, H, dtype=F64), ours.init_state(B)
    cache = None, torch.zeros(B, config.d_inner, config.d_conv - 1, dtype=F64)
    for x in xs:
        y_theirs, cache = theirs.step(x, cache)
        y_ours, state = ours.step(x, state)
        assert_near(y_ours, y_theirs, tolerance)
        assert_near(state.h, cache[0], tolerance)
        assert_near(state.past, cache[1].mT, tolerance)


@pytest.mark.parametrize("options", MAMBA2)
def test_mamba2_is_transformers(options: dict, tolerance: float) -> None:
    ours, theirs, _ = mamba2_pair(options)
    assert_same(ours, theirs, tolerance)


@pytest.mark.parametrize("first", [1, 6])
@pytest.mark.parametrize("options", [*MAMBA, *MAMBA2[:2]])  # its cached step leaves dt_limit out
def test_streams_are_transformers(options: dict, first: int, tolerance: float) -> None:
    """A prompt and then single steps, with its cache: outputs and both states."""
    ours, theirs, config = mamba2_pair(options) if "heads" in options else mamba_pair(options)
    cache, state = transformers.DynamicCache(config=config), ours.init_state(B)
    x = torch.randn(B, T, H, dtype=F64)
    with torch.no_grad():
        for begin, end in itertools.pairwise([0, *range(first, T + 1)]):
            y_theirs = theirs(x[:, begin:end], cache_params=cache)
            y_ours, state = ours(x[:, begin:end], state)
            assert_near(y_ours, y_theirs, tolerance)
            recurrent, past = cache.layers[0].recurrent_states[0], cache.layers[0].conv_states[0]
            assert_near(state[1], recurrent.mT if "heads" in options else recurrent, tolerance)
            assert_near(state.past, past.mT[:, 1:], tolerance)


def linear(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    y = p[f"{name}.weight"] @ x
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def convolved(p: dict[str, Tensor], recent: Tensor) -> Tensor:
    """Of the last inputs (W, D), one output (D,), channel by channel and tap by tap."""
    w = p["conv.weight"][:, 0]
    outputs = []
    for d in range(recent.shape[1]):
        total = p["conv.bias"][d] if "conv.bias" in p else torch.zeros((), dtype=F64)
        for j in range(w.shape[1]):
            total = total + w[d, j] * recent[recent.shape[0] - w.shape[1] + j, d]
        outputs.append(total * torch.sigmoid(total))
    return torch.stack(outputs)


def mamba_row(cell: Mamba, p: dict[str, Tensor], x_TI: Tensor, past: Tensor, h: Tensor):
    ys, (D, N) = [], h.shape
    for x in x_TI:
        u, z = linear(p, "to_uz", x)[:D], linear(p, "to_uz", x)[D:]
        recent = torch.cat([past, u[None]])
        c, past = convolved(p, recent), recent[1:]
        r, b, q = linear(p, "to_rbq", c).split([p["to_dt.weight"].shape[1], N, N])
        dt = torch.log1p(torch.exp(linear(p, "to_dt", r)))
        h = torch.stack([torch.exp(-dt[d] * p["log_rate"][d].exp()) * h[d] + dt[d] * c[d] * b for d in range(D)])
        o = torch.stack([(h[d] @ q + p["skip"][d] * c[d]) * z[d] * torch.sigmoid(z[d]) for d in range(D)])
        ys.append(linear(p, "out", o))
    return torch.stack(ys), MambaState(past, h)


def mamba2_row(cell: Mamba2, p: dict[str, Tensor], x_TI: Tensor, past: Tensor, S: Tensor):
    ys, (H, K, V), G = [], S.shape, cell.groups
    for x in x_TI:
        z, u, dt = linear(p, "to_zudt", x).split([H * V, H * V + 2 * G * K, H])
        recent = torch.cat([past, u[None]])
        c, past = convolved(p, recent), recent[1:]
        v, k, q = c[: H * V], c[H * V : H * V + G * K], c[H * V + G * K :]
        heads, outputs = [], []
        for head in range(H):
            group = slice(head // (H // G) * K, (head // (H // G) + 1) * K)
            mine = slice(head * V, (head + 1) * V)
            length = torch.log1p(torch.exp(dt[head] + p["dt_bias"][head])).clip(*cell.dt_limit)
            decay = torch.exp(-length * p["log_rate"][head].exp())
            heads.append(decay * S[head] + length * torch.outer(k[group], v[mine]))
            gate = z[mine] * torch.sigmoid(z[mine])
            outputs.append((heads[-1].T @ q[group] + p["skip"][head] * v[mine]) * gate)
        S, o = torch.stack(heads), torch.cat(outputs)
        normed = [one / (one.square().mean() + 1e-5).sqrt() for one in o.chunk(G)]
        ys.append(linear(p, "out", torch.cat(normed) * p["norm.weight"].flatten()))
    return torch.stack(ys), Mamba2State(past, S)


LOOPS = [
    (Mamba, mamba_row, {}),
    (Mamba, mamba_row, {"state": 3, "expand": 1.5, "conv": 1, "rank": 2, "dt_max": 2.0, "bias": True}),
    (Mamba, mamba_row, {"conv": 3, "conv_bias": False}),
    (Mamba2, mamba2_row, {"state": 6}),
    (Mamba2, mamba2_row, {"state": 3, "expand": 3, "heads": 4, "groups": 2, "conv": 2, "dt_min": 0.2, "dt_max": 2.0}),
    (Mamba2, mamba2_row, {"state": 3, "heads": 4, "dt_min": 0.2, "dt_max": 2.0, "dt_limit": (0.3, 0.9)}),
    (Mamba2, mamba2_row, {"state": 3, "heads": 4, "conv": 1, "dt_max": 2.0, "conv_bias": False, "bias": True}),
]


@pytest.mark.parametrize(("kind", "row", "options"), LOOPS)
def test_equations(kind: type, row, options: dict) -> None:
    """From a state in mid-stream: outputs, the state after, and gradients of everything, with input_size of its own."""
    cell = kind(3, 4, **options).to(F64)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    x = torch.randn(2, 5, 3, dtype=F64, requires_grad=True)
    state = tree.map(lambda leaf: torch.randn_like(leaf).requires_grad_(), cell.init_state(2))
    y, after = cell(x, state)
    rows = [row(cell, dict(cell.named_parameters()), x[i], *(leaf[i] for leaf in state)) for i in range(2)]
    wanted = torch.stack([y for y, _ in rows]), *tree.leaves(tree.map(lambda *r: torch.stack(r), *(s for _, s in rows)))
    found = y, *tree.leaves(after)
    mix = [torch.randn_like(one) for one in found]
    points = [x, *tree.leaves(state), *cell.parameters()]
    for mine, true in zip(found, wanted, strict=True):
        assert_near(mine, true, 1e-10)
    gradients = [torch.autograd.grad(outputs, points, mix, materialize_grads=True) for outputs in (found, wanted)]
    for mine, true in zip(*gradients, strict=True):
        assert_near(mine, true, 1e-10)


def test_beginnings() -> None:
    """The weights that the papers prescribe: rates and skips as transformers sets them, steps' lengths in range."""
    ours, theirs = Mamba(48, 48, dt_min=0.01, dt_max=0.5), MambaMixer(transformers.MambaConfig(hidden_size=48), 0)
    torch.testing.assert_close(ours.log_rate, theirs.A_log)
    torch.testing.assert_close(ours.skip, theirs.D)
    assert ours.rank == theirs.time_step_rank == 3
    second = Mamba2(8, 4000, heads=2000, state=2, dt_min=0.01, dt_max=0.5)
    for bias in (ours.to_dt.bias, second.dt_bias):
        lengths = F.softplus(bias)
        assert lengths.min() > 0.01 - 1e-6
        assert lengths.max() < 0.5 + 1e-6
    middle = math.sqrt(0.01 * 0.5)
    assert 0.4 < (F.softplus(second.dt_bias) < middle).double().mean() < 0.6
    rates = second.log_rate.exp()
    assert 1 <= rates.min() < 1.5 < 15.5 < rates.max() <= 16.0001
    assert Mamba2(8, 256).heads == 8


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        (Mamba, {"state": 0}, "state must be at least 1"),
        (Mamba, {"conv": 0}, "conv must be at least 1"),
        (Mamba, {"rank": -1}, "rank must be at least 1"),
        (Mamba, {"expand": 0}, "expand"),
        (Mamba, {"dt_min": 0.5}, "dt_min and dt_max"),
        (Mamba, {"dt_min": 0.0}, "dt_min and dt_max"),
        (Mamba2, {"heads": 3}, "3 heads"),
        (Mamba2, {"heads": 2, "groups": 4}, "4 groups"),
        (Mamba2, {"groups": 0}, "groups must be at least 1"),
        (Mamba2, {"dt_limit": (0.2, 0.1)}, "dt_limit"),
        (Mamba2, {"dt_max": math.inf}, "dt_min and dt_max"),
    ],
)
def test_refusals(kind: type, options: dict, says: str) -> None:
    with pytest.raises(ClewError, match=says):
        kind(3, 4, **options)
