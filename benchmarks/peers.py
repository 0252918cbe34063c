"""The public implementations that the mixers are raced against, each with our weights in it.

A peer is a module or a function from x (B, T, W) to y, and its parameters by the names of ours.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn

from clew import cells, ops
from clew.cells import Recurrence


class Peer(NamedTuple):
    run: Callable[[Tensor], Tensor]
    parameters: dict[str, Tensor]  # ours: theirs
    ours: Recurrence


MAMBA = {"to_uz": "in_proj", "conv": "conv1d", "to_rbq": "x_proj", "to_dt": "dt_proj", "log_rate": "A_log"}
MAMBA |= {"skip": "D", "out": "out_proj"}
MAMBA2 = {"to_zudt": "in_proj", "conv": "conv1d", "dt_bias": "dt_bias", "log_rate": "A_log", "skip": "D"}
MAMBA2 |= {"norm": "norm", "out": "out_proj"}
MLSTM = {"to_q": "q", "to_k": "k", "to_v": "v", "to_gate": "ogate_preact", "to_i": "igate_preact"}
MLSTM |= {"to_f": "fgate_preact", "norm": "multihead_norm", "out": "out_proj"}


def of(name: str, width: int) -> dict[str, Peer]:
    """The peers of a cell of this width, by name; {} where there are none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PEERS[name](width) if name in PEERS else {}


def _mamba(W: int) -> dict[str, Peer]:
    from mambapy.mamba import MambaBlock, MambaConfig
    from transformers import MambaConfig as Config
    from transformers.models.mamba.modeling_mamba import MambaMixer

    theirs = {
        "mambapy": MambaBlock(MambaConfig(d_model=W, n_layers=1)),
        "transformers": MambaMixer(Config(hidden_size=W, num_hidden_layers=1), 0),
    }
    ours = cells.Mamba(W, W)
    return {name: _with_weights(ours, module, MAMBA) for name, module in theirs.items()}


def _mamba2(W: int) -> dict[str, Peer]:
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    ours = cells.Mamba2(W, W)
    sizes = {"hidden_size": W, "num_heads": ours.heads, "head_dim": 2 * W // ours.heads, "n_groups": 1}
    chunks = {"transformers": 256, "transformers, chunks of 64": 64}  # 256 is its default
    config = {name: Mamba2Config(**sizes, state_size=128, chunk_size=chunk) for name, chunk in chunks.items()}
    return {name: _with_weights(ours, Mamba2Mixer(each, 0), MAMBA2) for name, each in config.items()}


def _mlstm(W: int) -> dict[str, Peer]:
    from transformers.models.xlstm.modeling_xlstm import xLSTMConfig, xLSTMLayer

    ours = cells.MLSTM(W, W, keys=0.5, gate_cap=15.0, input_bias=-10.0, eps=1e-6)
    return {"transformers": _with_weights(ours, xLSTMLayer(xLSTMConfig(hidden_size=W, num_heads=ours.heads)), MLSTM)}


def _mingru(W: int) -> dict[str, Peer]:
    from minGRU_pytorch import minGRU

    ours, theirs = cells.MinGRU(W, W, bias=False), minGRU(W)
    with torch.no_grad():
        joined = torch.cat([ours.to_candidate.weight, ours.to_gate.weight])
        theirs.to_hidden_and_gate.weight.copy_(joined)
    return {"minGRU-pytorch": Peer(theirs, {}, ours)}  # its one matrix is two of ours


def _with_weights(ours: Recurrence, theirs: nn.Module, names: dict[str, str]) -> Peer:
    found = {}
    with torch.no_grad():
        for name, mine in ours.named_parameters():
            first, dot, rest = name.partition(".")
            other = theirs.get_parameter(names[first] + dot + rest)
            found[name] = other
            other.copy_(mine.view_as(other))

    def run(x: Tensor) -> Tensor:
        y = theirs(x)
        return y[0] if isinstance(y, tuple) else y

    return Peer(run, found, ours)


# --- loops of flash-linear-attention, in the place of our scan in our own cells


def _naive(file: str) -> ModuleType:
    package = importlib.util.find_spec("fla")
    assert package is not None, "fla-core is not installed"
    assert package.submodule_search_locations
    spec = importlib.util.spec_from_file_location("naive", f"{package.submodule_search_locations[0]}/ops/{file}")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _gla(q, k, v, w, S, erase):
    return _naive("gla/naive.py").naive_recurrent_gla(q * q.shape[-1] ** 0.5, k, v, w.log(), S, True)


def _simple_gla(q, k, v, w, S, erase):
    return _naive("simple_gla/naive.py").naive_recurrent_simple_gla(q, k, v, w[..., 0].log(), 1.0, S)


def _delta(q, k, v, w, S, erase):
    beta = (k * erase[1]).sum(-1) / erase[1].square().sum(-1)
    turned = [t.transpose(1, 2) for t in (q * q.shape[-1] ** 0.5, erase[1], v, beta)]
    y, S = _naive("delta_rule/naive.py").delta_rule_recurrence(*turned, S)
    return y.transpose(1, 2), S


def _gated_delta(q, k, v, w, S, erase):
    beta = (k * erase[1]).sum(-1) / erase[1].square().sum(-1)
    loop = _naive("gated_delta_rule/naive.py").naive_recurrent_gated_delta_rule
    return loop(q, erase[1], v, beta, w[..., 0].log(), 1.0, S, True)


def _dplr(q, k, v, w, S, erase):
    turned = [t.transpose(1, 2) for t in (q * q.shape[-1] ** 0.5, k, v, erase[1], erase[0], w.log())]
    y, S = _naive("generalized_delta_rule/dplr/naive.py").dplr_recurrence(*turned, initial_state=S)
    return y.transpose(1, 2), S


def _looped(cell: type[Recurrence], loop: Callable[..., Any]) -> Callable[[int], dict[str, Peer]]:
    def peers(W: int) -> dict[str, Peer]:
        ours = cell(W, W)

        def scan(q, k, v, w, S, *, initial, erase=None, lengths=None, reset=None):
            return loop(q, k, v, w.expand(*q.shape[:3], -1), S, erase)

        def run(x: Tensor) -> Tensor:
            with patch.object(ops, "matrix_scan", scan):
                return ours(x)[0]

        return {"flash-linear-attention's loop": Peer(run, dict(ours.named_parameters()), ours)}

    return peers


PEERS: dict[str, Callable[[int], dict[str, Peer]]] = {
    "mamba": _mamba,
    "mamba2": _mamba2,
    "mingru": _mingru,
    "mlstm": _mlstm,
    "gla": _looped(cells.GLA, _gla),
    "retnet": _looped(cells.RetNet, _simple_gla),
    "deltanet": _looped(cells.DeltaNet, _delta),
    "gated_deltanet": _looped(cells.GatedDeltaNet, _gated_delta),
    "rwkv7": _looped(cells.RWKV7, _dplr),
}
