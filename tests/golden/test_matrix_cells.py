"""RetNet, GLA, DeltaNet and gated DeltaNet against public implementations, in float64: outputs, states, and the
gradients of all weights and inputs.

Whole modules: torchscale's MultiScaleRetention (the official code of RetNet) and transformers' Qwen3NextGatedDeltaNet.
Recurrences: the plain functions of flash-linear-attention, whose layers need a GPU; what stands before and behind them
in a layer is written here, from the papers. Where a peer widens its numbers to float32, it is given float64.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.cells.deltanet import DeltaNet
from clew.cells.gated_deltanet import GatedDeltaNet
from clew.cells.gla import GLA
from clew.cells.retnet import RetNet, RetNetState

B, T, INPUT, H = 2, 11, 5, 12
NOTHING = 1e-300  # an epsilon that leaves a norm indifferent to the scale of its input, as some of the peers assume
Weights = dict[str, Tensor]


class Wide:
    """torch, but with float64 by the name of float32."""

    float = float32 = torch.float64

    def __getattr__(self, name: str):
        return getattr(torch, name)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


@pytest.fixture
def qwen(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """In plain torch: it takes up flash-linear-attention, which needs a GPU, where that can be imported."""
    name = "transformers.models.qwen3_next.modeling_qwen3_next"
    monkeypatch.setitem(sys.modules, "fla", None)
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = pytest.importorskip(name, reason="this peer is not installed")
    monkeypatch.setattr(module, "torch", Wide())
    return module


def naive(op: str) -> ModuleType:
    """The plain functions of one op of flash-linear-attention, without the package around them, which needs triton."""
    package = importlib.util.find_spec("fla")
    if package is None:
        pytest.skip("the peer fla-core is not installed")
    (folder,) = package.submodule_search_locations
    spec = importlib.util.spec_from_file_location(f"fla_naive_{op}", Path(folder) / "ops" / op / "naive.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.torch = Wide()
    return module


def prepared(cell):
    """In float64, gains and biases moved off 1 and 0."""
    with torch.no_grad():
        for parameter in cell.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return cell.double()


def close(ours, theirs) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-9)


def stepped(cell, x: Tensor, state=None) -> tuple[Tensor, object]:
    ys, state = [], cell.init_state(len(x)) if state is None else state
    for x_BI in x.unbind(1):
        y, state = cell.step(x_BI, state)
        ys.append(y)
    return torch.stack(ys, 1), state


def held_against(cell, layer: Callable[[Weights, Tensor], tuple[Tensor, Tensor | None]], x: Tensor) -> None:
    """Our cell and a function of (its weights, x), that gives outputs and the last matrix where it tells that."""
    weights = {name: p.detach().clone().requires_grad_() for name, p in cell.named_parameters()}
    ours_x, theirs_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    (ours, state), (theirs, S) = cell(ours_x), layer(weights, theirs_x)
    close(ours, theirs)
    close(stepped(cell, x)[0], theirs)
    if S is not None:
        close(state if isinstance(state, Tensor) else state.S, S)
    way = torch.randn_like(ours)
    names, parameters = zip(*cell.named_parameters(), strict=True)
    found = torch.autograd.grad((ours * way).sum(), [ours_x, *parameters])
    wanted = torch.autograd.grad((theirs * way).sum(), [theirs_x, *weights.values()])
    for name, a, b in zip(("x", *names), found, wanted, strict=True):
        assert b.abs().max() > 0, name
        close(a, b)


# --- flash-linear-attention's recurrences


def heads_first(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


def rms(o: Tensor, gain: Tensor | float, eps: float) -> Tensor:
    return gain * o / (o.square().mean(-1, keepdim=True) + eps).sqrt()


def turned(x_BTHK: Tensor) -> Tensor:
    """Rotary positions by complex numbers: pair j of step t is multiplied by exp(i t theta[j])."""
    J = x_BTHK.shape[-1] // 2
    theta = torch.tensor([10000.0 ** -(j / (J - 1)) for j in range(J)], dtype=torch.float64)
    angle = torch.arange(x_BTHK.shape[1], dtype=torch.float64)[:, None, None] * theta
    pairs = torch.complex(x_BTHK[..., 0::2], x_BTHK[..., 1::2]) * torch.polar(torch.ones_like(angle), angle)
    return torch.view_as_real(pairs).flatten(-2)


def retention_layer(centred: bool) -> Callable:
    def layer(w: Weights, x: Tensor):
        q, k, v = (F.linear(x, w[f"to_{name}.weight"]).unflatten(-1, (2, -1)) for name in "qkv")
        o = naive("retention").naive_retention(*(heads_first(part) for part in (turned(q), turned(k), v)))
        o = heads_first(o)
        o = o - o.mean(-1, keepdim=True) if centred else o
        return F.linear(rms(o, 1.0, 1e-6).flatten(-2) * F.silu(F.linear(x, w["to_gate.weight"])), w["out.weight"]), None

    return layer


def gla_layer(w: Weights, x: Tensor):
    q, k, v = (F.linear(x, w[f"to_{name}.weight"]).unflatten(-1, (2, -1)) for name in "qkv")
    logits = F.linear(F.linear(x, w["to_decay.0.weight"]), w["to_decay.1.weight"], w["to_decay.1.bias"])
    gk = F.logsigmoid(logits).unflatten(-1, (2, -1)) / 16
    o, S = naive("gla").naive_recurrent_gla(q, k, v, gk, output_final_state=True)
    gate = F.silu(F.linear(x, w["to_gate.weight"]))
    return F.linear(rms(o, w["norm.weight"], 1e-5).flatten(-2) * gate, w["out.weight"]), S


def qkv(w: Weights, x: Tensor, keys: int) -> tuple[Tensor, ...]:
    """Projected and convolved, (B, T, heads, ...), before what makes them sharp."""
    width, _, taps = w["to_qkv.conv.weight"].shape
    projected = F.linear(x, w["to_qkv.project.weight"]).transpose(1, 2)
    c = F.conv1d(F.pad(projected, (taps - 1, 0)), w["to_qkv.conv.weight"], groups=width).transpose(1, 2)
    return tuple(part.unflatten(-1, (2, -1)) for part in c.tensor_split((keys, 2 * keys), -1))


def unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def delta_layer(keys: int, positive: bool, most: float) -> Callable:
    def layer(w: Weights, x: Tensor):
        q, k, v = qkv(w, x, keys)
        if positive:
            q, k = (F.elu(part) + 1 for part in (q, k))
            q, k = (part / (part.sum(-1, keepdim=True) + 1e-6) for part in (q, k))
        else:
            q, k = unit(F.silu(q)), unit(F.silu(k))
        beta = most * torch.sigmoid(F.linear(x, w["to_beta.weight"]))
        given = (heads_first(part) for part in (q, k, F.silu(v), beta))
        o, S = naive("delta_rule").delta_rule_recurrence(*given)
        return F.linear(rms(heads_first(o), w["norm.weight"], 1e-5).flatten(-2), w["out.weight"]), S

    return layer


def gated_delta_layer(function: str, keys: int, most: float) -> Callable:
    def layer(w: Weights, x: Tensor):
        q, k, v = qkv(w, x, keys)
        beta = most * torch.sigmoid(F.linear(x, w["to_beta.weight"]))
        step = F.softplus(F.linear(x, w["to_decay.weight"], w["to_decay.bias"]))
        given = {"q": unit(F.silu(q)), "k": unit(F.silu(k)), "v": F.silu(v), "beta": beta}
        run = getattr(naive("gated_delta_rule"), function)
        o, S = run(**given, g=-w["log_rate"].exp() * step, output_final_state=True)
        gate = F.silu(F.linear(x, w["to_gate.weight"]))
        return F.linear(rms(o, w["norm.weight"], 1e-5).flatten(-2) * gate, w["out.weight"]), S

    return layer


PAIRS = {
    "retention": (lambda: RetNet(INPUT, H, heads=2), retention_layer(True)),
    "retention, rms": (lambda: RetNet(INPUT, H, heads=2, expand=1.5, centred=False), retention_layer(False)),
    "gla": (lambda: GLA(INPUT, H, heads=2, rank=3), gla_layer),
    "gla, more keys": (lambda: GLA(INPUT, H, heads=2, rank=3, keys=1.5), gla_layer),
    "delta": (lambda: DeltaNet(INPUT, H, heads=2), delta_layer(12, False, 1.0)),
    "delta, options": (
        lambda: DeltaNet(INPUT, H, heads=2, keys=0.5, conv=2, positive=True, negative=True),
        delta_layer(6, True, 2.0),
    ),
    "gated delta": (
        lambda: GatedDeltaNet(INPUT, H, heads=2, keys=0.5),
        gated_delta_layer("naive_recurrent_gated_delta_rule", 6, 1.0),
    ),
    "gated delta, chunks": (
        lambda: GatedDeltaNet(INPUT, H, heads=2, keys=1.0, expand=0.5, conv=3, negative=True),
        gated_delta_layer("naive_chunk_gated_delta_rule", 12, 2.0),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_flash_linear_attention(name: str) -> None:
    make, layer = PAIRS[name]
    held_against(prepared(make()), layer, torch.randn(B, T, INPUT, dtype=torch.float64))


# --- torchscale's retention


def torchscales(eps: float) -> tuple[nn.Module, RetNet]:
    peer = pytest.importorskip("torchscale.component.multiscale_retention", reason="this peer is not installed")
    theirs = peer.MultiScaleRetention(SimpleNamespace(multiway=False, layernorm_eps=eps), H, 2 * H, 2).double()
    ours = RetNet(H, H, heads=2, centred=False).double()
    ours.norm.eps = eps
    ours.load_state_dict(retention_names(dict(theirs.named_parameters())))
    return theirs, ours


def retention_names(theirs: Weights) -> Weights:
    first = {
        f"to_{a}.weight": theirs[f"{b}_proj.weight"] for a, b in (("q",) * 2, ("k",) * 2, ("v",) * 2, ("gate", "g"))
    }
    return first | {"out.weight": theirs["out_proj.weight"]}


def rotation(steps: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    """Sine and cosine (T, K) as torchscale takes them: each angle twice."""
    theta = 10000.0 ** -(torch.arange(pairs, dtype=torch.float64) / (pairs - 1))
    angle = (steps[:, None] * theta).repeat_interleave(2, -1)
    return angle.sin(), angle.cos()


GAMMA = torch.tensor([1 - 2.0**-5, 1 - 2.0**-6], dtype=torch.float64)


def test_torchscale_in_parallel() -> None:
    """With the epsilon of both: the sums that torchscale would divide by are under 1 at these weights."""
    theirs, ours = torchscales(1e-6)
    x = torch.randn(B, T, H, dtype=torch.float64)
    t = torch.arange(T, dtype=torch.float64)
    mask = (GAMMA[:, None, None] ** (t[:, None] - t).clamp(min=0)).tril()

    def layer(w: Weights, x: Tensor):
        return torch.func.functional_call(theirs, w, (x, (rotation(t, 3), mask))), None

    names = retention_names({name: name for name, _ in theirs.named_parameters()})
    held_against(ours, lambda w, x: layer({names[name]: value for name, value in w.items()}, x), x)


def test_torchscale_step_by_step() -> None:
    """Its cache scales the matrix, which the norm undoes once its epsilon is away."""
    theirs, ours = torchscales(NOTHING)
    x = torch.randn(B, T, H, dtype=torch.float64)
    cache: dict = {}
    with torch.no_grad():
        found = []
        for t in range(T):
            rel_pos = (rotation(torch.tensor([t], dtype=torch.float64), 3), GAMMA)
            found.append(theirs(x[:, t : t + 1], rel_pos, incremental_state=cache))
        close(stepped(ours, x)[0], torch.cat(found, 1))
        close(ours(x)[0], torch.cat(found, 1))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_retention_is_the_same_a_billion_steps_later(dtype: torch.dtype, tolerance: float) -> None:
    """Only differences of positions matter, so a late beginning changes nothing but the rounding of angles."""
    cell = RetNet(INPUT, H, heads=2).to(dtype)
    x, start = torch.randn(B, T, INPUT, dtype=dtype), cell.init_state(B)
    late = RetNetState(start.S, start.position + torch.tensor([1_000_000_000, 999_999_937]))
    y, state = cell(x, late)
    assert torch.equal(state.position, late.position + T)
    assert not torch.equal(y, cell(x)[0])
    torch.testing.assert_close(y, cell(x)[0], atol=tolerance, rtol=tolerance)


# --- transformers' gated delta rule


def qwens(qwen: ModuleType, hidden: int, heads: int) -> tuple[nn.Module, GatedDeltaNet, object]:
    config = qwen.Qwen3NextConfig(
        hidden_size=hidden,
        num_hidden_layers=1,
        layer_types=["linear_attention"],
        linear_num_key_heads=heads,
        linear_num_value_heads=heads,
        linear_key_head_dim=hidden // heads // 2,
        linear_value_head_dim=hidden // heads,
        linear_conv_kernel_dim=4,
        rms_norm_eps=1e-5,
    )
    theirs = prepared(qwen.Qwen3NextGatedDeltaNet(config, 0)).eval()
    ours = GatedDeltaNet(hidden, hidden, heads=heads, keys=0.5).double()
    ours.load_state_dict(qwen_names(dict(theirs.named_parameters()), theirs))
    return theirs, ours, config


def qwen_names(w: Weights, module: nn.Module) -> Weights:
    """Its weights, or their gradients, in our order: it keeps q, k, v and the gate of a head together."""
    K, V, heads = module.head_k_dim, module.head_v_dim, module.num_v_heads
    parts = w["in_proj_qkvz.weight"].unflatten(0, (heads, -1)).split([K, K, V, V], 1)
    q, k, v, gate = (part.flatten(0, 1) for part in parts)
    beta, decay = w["in_proj_ba.weight"].unflatten(0, (heads, 2)).unbind(1)
    return {
        "to_qkv.project.weight": torch.cat([q, k, v]),
        "to_qkv.conv.weight": w["conv1d.weight"],
        "to_beta.weight": beta,
        "to_decay.weight": decay,
        "to_decay.bias": w["dt_bias"],
        "log_rate": w["A_log"],
        "to_gate.weight": gate,
        "norm.weight": w["norm.weight"],
        "out.weight": w["out_proj.weight"],
    }


@pytest.mark.parametrize("steps", [T, 70])  # 70: more than one of its chunks of 64
def test_qwen3_next(qwen: ModuleType, steps: int) -> None:
    theirs, ours, _ = qwens(qwen, H, 2)
    ours_x = torch.randn(B, steps, H, dtype=torch.float64, requires_grad=True)
    theirs_x = ours_x.detach().clone().requires_grad_()
    y, wanted = ours(ours_x)[0], theirs(theirs_x)
    close(y, wanted)
    way = torch.randn_like(y)
    (y * way).sum().backward()
    (wanted * way).sum().backward()
    close(ours_x.grad, theirs_x.grad)
    gradients = qwen_names({name: p.grad for name, p in theirs.named_parameters()}, theirs)
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, p in ours.named_parameters():
        assert p.grad.abs().max() > 0, name
        close(p.grad, gradients[name])


def test_qwen3_next_step_by_step(qwen: ModuleType) -> None:
    """A prompt and then single steps, with its cache."""
    theirs, ours, config = qwens(qwen, H, 2)
    x = torch.randn(B, T, H, dtype=torch.float64)
    cache = pytest.importorskip("transformers").DynamicCache(config=config)
    with torch.no_grad():
        found = [theirs(x[:, :4], cache_params=cache)]
        found += [theirs(x[:, t : t + 1], cache_params=cache) for t in range(4, T)]
        head, state = ours(x[:, :4])
        tail, state = stepped(ours, x[:, 4:], state)
    close(torch.cat([head, tail], 1), torch.cat(found, 1))
    close(state.S, cache.get_recurrent_state(0, state_idx=0))
    close(state.past, cache.get_conv_state(0, state_idx=0)[:, :, -3:].transpose(1, 2))
