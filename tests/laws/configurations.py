"""The one table of what the laws are held against: every name in `cells.RECURRENCES` with each of its options, and what
composes them. A recurrence that enters the package without an entry here fails the tests on import."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from clew import cells
from clew.cells import (
    GLA,
    GRU,
    LSTM,
    POOLS,
    Bidirectional,
    BothEnds,
    Elman,
    Encoder,
    LinearRecurrence,
    Pointwise,
    Recurrence,
    Residual,
    Stack,
)

CLASSICAL = ("elman", "gru", "lstm")
Build = Callable[[], Recurrence | Encoder]
INPUT, H = 3, 4

SHARED: dict[str, dict] = {
    "defaults": {},
    "no bias": {"bias": False},
    "random start": {"initial": "random"},
    "learned start": {"initial": "learned"},
    "identity": {"recurrent_init": "identity"},
    "uniform": {"recurrent_init": "uniform"},
    "layer norm": {"layer_norm": True},
    "layer norm, no bias": {"layer_norm": True, "bias": False},
    "recurrent dropout": {"recurrent_dropout": 0.3},
    "zoneout": {"zoneout": 0.2},
    "heads": {"heads": 2},
    "heads, many options": {"heads": 2, "layer_norm": True, "recurrent_dropout": 0.3, "zoneout": 0.2, "bias": False},
}
MANY = {"initial": "learned", "layer_norm": True, "recurrent_dropout": 0.3, "zoneout": 0.2}

OPTIONS: dict[str, dict[str, dict]] = {
    "elman": {
        **SHARED,
        "relu": {"nonlinearity": "relu"},
        "relu, identity": {"nonlinearity": "relu", "recurrent_init": "identity"},
        "everything": {**MANY, "nonlinearity": "relu", "recurrent_init": "uniform"},
    },
    "gru": {
        **SHARED,
        "forget bias": {"forget_bias": 2.0},
        "everything": {**MANY, "forget_bias": 1.0, "recurrent_init": "uniform"},
    },
    "lstm": {
        **SHARED,
        "forget bias": {"forget_bias": 3.0},
        "projection": {"projection": 2},
        "projection, learned start": {"projection": 2, "initial": "learned"},
        "zoneout of c": {"zoneout_cell": 0.4},
        "everything": {**MANY, "zoneout_cell": 0.1, "projection": 2, "forget_bias": 2.0, "recurrent_init": "uniform"},
    },
    "mingru": {
        "defaults": {},
        "linear candidate": {"positive": False},
        "everything": {"positive": False, "bias": False},
    },
    "minlstm": {
        "defaults": {},
        "forget bias": {"forget_bias": 2.0},
        "everything": {"positive": False, "bias": False},
    },
    "indrnn": {
        "defaults": {},
        "everything": {"nonlinearity": "tanh", "bias": False, "steps": 7, "gamma": 3.0, "epsilon": 0.5},
    },
    "lru": {"defaults": {}, "everything": {"state_size": 5, "radius": (0.5, 0.99), "phase": 1.0}},
    "s5": {
        "defaults": {},
        "gaps": {"gaps": True},
        "everything": {"state_size": 8, "blocks": 2, "dt": (0.1, 1.0), "clip": True, "gaps": True},
    },
    "rglru": {
        "defaults": {},
        "one tap": {"taps": 1},
        "everything": {"heads": 2, "width": 6, "taps": 3, "whole_start": True},
    },
    "mamba": {
        "defaults": {},
        "no convolution": {"conv": 1},
        "everything": {
            **{"state": 3, "expand": 1.5, "conv": 2, "rank": 2},
            **{"dt_min": 0.1, "dt_max": 1.0, "conv_bias": False, "bias": True},
        },
    },
    "mamba2": {
        "defaults": {"state": 8},  # 128 by default: the derivatives of so many take minutes
        "everything": {
            **{"state": 3, "expand": 3, "heads": 4, "groups": 2, "conv": 3, "dt_limit": (0.2, 2.0)},
            **{"dt_min": 0.1, "dt_max": 1.0, "conv_bias": False, "bias": True},
        },
    },
    "retnet": {
        "defaults": {},
        "root mean square": {"heads": 2, "centred": False},
        "everything": {"heads": 2, "expand": 1.5},
    },
    "deltanet": {
        "defaults": {},
        "heads, no past": {"heads": 2, "conv": 1},
        "everything": {"heads": 2, "keys": 1.5, "conv": 3, "positive": True, "negative": True},
    },
    "gated_deltanet": {
        "defaults": {},
        "everything": {
            **{"heads": 2, "keys": 1.0, "expand": 1.5, "conv": 3},
            **{"negative": True, "dt_min": 0.01, "dt_max": 0.5},
        },
    },
    "gla": {"defaults": {}, "everything": {"heads": 2, "keys": 1.0, "rank": 3, "slowness": 2.0}},
    "rwkv6": {"defaults": {}, "everything": {"heads": 2, "mix_rank": 2, "decay_rank": 3}},
    "rwkv7": {"defaults": {}, "everything": {"heads": 2, "rank": 3}},
    "mlstm": {
        "defaults": {},
        "everything": {
            **{"heads": 2, "keys": 0.5, "forget": "exp", "gate_cap": 5.0},
            **{"input_bias": -2.0, "bias": True, "eps": 1e-3},
        },
    },
    "slstm": {
        "defaults": {},
        "convolution": {"conv": 4},
        "everything": {"heads": 2, "forget": "exp", "conv": 3, "recurrent": "uniform", "norm": False},
    },
    "cfc": {
        "defaults": {"units": 16},
        "no gate": {"mode": "no gate", "units": 5},
        "pure": {"mode": "pure", "units": 5},
        "no backbone": {"layers": 0},
        "mixed memory": {"mixed": True, "units": 5},
        "everything": {
            **{"mode": "no gate", "units": 5, "layers": 2, "activation": "silu", "dropout": 0.2},
            **{"mixed": True, "gaps": True},
        },
    },
    "attention": {
        "defaults": {"window": 16},
        "window of one": {"window": 1},
        "no positions": {"rotary": False, "window": 4},
        "odd heads": {"heads": 4, "window": 5},
        "everything": {"heads": 2, "window": 3, "bias": True, "base": 100.0},
    },
    "conv": {
        "defaults": {},
        "a map": {"kernel": 1, "activation": "none"},
        "dilated": {"kernel": 3, "dilation": 2},
        "everything": {"kernel": 2, "dilation": 3, "activation": "tanh", "bias": False},
    },
}
if missing := set(cells.RECURRENCES) ^ set(OPTIONS):
    raise AssertionError(f"tests/laws/configurations.py and cells.RECURRENCES differ in: {', '.join(sorted(missing))}")


class MinGRU(LinearRecurrence):
    """A recurrence as a user writes it (after Feng et al. 2024, arXiv:2410.01201): the gates see x only."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.gate, self.drive = nn.Linear(input_size, hidden_size), nn.Linear(input_size, hidden_size)
        self.skip = nn.Linear(input_size, hidden_size)

    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.sigmoid(self.gate(x))
        return 1 - z, z * self.drive(x)

    def readout(self, h: Tensor, x: Tensor) -> Tensor:
        return h * torch.sigmoid(self.skip(x)) + 0.5


def _deep() -> Recurrence:
    inner = Stack(Residual(LSTM(H, H), "layer"), Residual(Stack(GRU(H, 5), Pointwise(nn.Linear(5, H), 5, H)), "rms"))
    return Stack(LSTM(INPUT, H, initial="learned"), inner, Residual(inner.layers[0].layer), MinGRU(H, 2), dropout=0.5)


def _pool(name: str) -> Build:
    return lambda: Stack(GRU(INPUT, H), POOLS[name](H))


def _stacked(name: str, **options: object) -> Build:
    """Few slots, so that they run over and empty within a law's few steps."""
    kind = cells.RECURRENCES[name]
    sizes: dict = {"depth": 3, "width": 2, **options}
    return lambda: cells.StackMemory.around(kind, INPUT, H, **sizes)


COMPOSED: dict[str, Build] = {
    "parallel": lambda: cells.Parallel(GRU(INPUT, H), Pointwise(nn.Identity(), INPUT), POOLS["mean"](INPUT)),
    **{f"stack memory of {name}": _stacked(name) for name in ("lstm", "elman", "gru", "mingru", "mlstm")},
    "stack memory of a mamba": _stacked("mamba", state=2),
    "stack memory, everything": _stacked("gru", stacks=2, reads=2, noise=0.5, initial="learned"),
    "stack memory, hard": _stacked("lstm", hard=True),
    "stack memory of a map": lambda: cells.StackMemory(
        Pointwise(nn.Linear(INPUT + 5, H), INPUT + 5, H), depth=3, width=2, noise=0.5, hard=True
    ),
    **{f"{name} pool": _pool(name) for name in POOLS},
    "user's linear": lambda: MinGRU(INPUT, H),
    "stack": lambda: Stack(LSTM(INPUT, H, projection=2), GRU(2, 5), Elman(5, 3), dropout=0.4),
    "stack of one": lambda: Stack(GRU(INPUT, H)),
    "residual": lambda: Residual(GRU(INPUT, INPUT)),
    "residual, layer norm": lambda: Residual(LSTM(INPUT, INPUT, initial="learned"), "layer"),
    "residual, rms norm": lambda: Residual(MinGRU(INPUT, INPUT), "rms"),
    "block": lambda: Residual(GRU(INPUT, INPUT), "layer", mlp=1.5),
    "block of encoder": lambda: Residual(Bidirectional(GRU(INPUT, 2), GRU(INPUT, 1)), "rms", mlp=2.0),
    "hybrid": lambda: Stack(
        Pointwise(nn.Linear(INPUT, H), INPUT, H), Residual(LSTM(H, H), "rms", mlp=1.0), Residual(GLA(H, H), "layer")
    ),
    "pointwise": lambda: Pointwise(nn.Sequential(nn.Linear(INPUT, H), nn.GELU()), INPUT, H),
    "stack with pointwise": lambda: Stack(
        Pointwise(nn.LayerNorm(INPUT), INPUT), GRU(INPUT, H), Pointwise(nn.Linear(H, 2), H, 2)
    ),
    "deep": _deep,
    "bidirectional": lambda: Bidirectional(LSTM(INPUT, H, initial="learned"), GRU(INPUT, 2)),
    "bidirectional sum": lambda: Bidirectional(Elman(INPUT, H), MinGRU(INPUT, H), "sum"),
    "bidirectional mean": lambda: Bidirectional(GRU(INPUT, 2, initial="random"), LSTM(INPUT, H, projection=2), "mean"),
    "bidirectional of stacks": lambda: Bidirectional(
        Stack(LSTM(INPUT, H), GRU(H, 2)), Residual(GRU(INPUT, INPUT), "rms")
    ),
    "future masked half": lambda: Bidirectional(GRU(INPUT, H), GRU(INPUT, H), "mean", mask_future=0.5),
    "future masked": lambda: Bidirectional(GRU(INPUT, H), GRU(INPUT, H), "sum", mask_future=1.0),
    "stack with encoder": lambda: Stack(LSTM(INPUT, H), Bidirectional(GRU(H, 2), Elman(H, 2)), GRU(H, 2), dropout=0.3),
    "both ends": lambda: Stack(Bidirectional(GRU(INPUT, 2), Elman(INPUT, 3)), BothEnds(2, 3)),
    "pooled encoder": lambda: Stack(Bidirectional(GRU(INPUT, 2), GRU(INPUT, 2)), POOLS["attention"](4)),
    "residual of encoder": lambda: Residual(Bidirectional(GRU(INPUT, 2), GRU(INPUT, 1)), "layer"),
}


def _single(name: str, options: dict) -> Build:
    return lambda: cells.RECURRENCES[name](INPUT, H, **options)


SINGLE: dict[str, Build] = {
    f"{name}: {label}": _single(name, options) for name, table in OPTIONS.items() for label, options in table.items()
}
CONFIGURATIONS: dict[str, Build] = SINGLE | COMPOSED


def build(name: str, seed: int = 0) -> Recurrence | Encoder:
    """The module of this name, the same numbers for the same seed; biases and gains are moved off 0 and 1, and maps
    off 0, which would hide mistakes."""
    torch.manual_seed(seed)
    module = CONFIGURATIONS[name]()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1 or not parameter.any():
                parameter += 0.1 * torch.randn_like(parameter)
    return module


RECURRENT = [name for name in CONFIGURATIONS if isinstance(build(name), Recurrence)]
ENCODERS = [name for name in CONFIGURATIONS if name not in RECURRENT]
