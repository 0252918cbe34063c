"""Who can choose what to remember? Selective copying and induction heads, with the same budget for all recurrences.

    python benchmarks/recall.py [--tasks selective_copying,induction] [--cells mamba,lru,...]

Writes results/5/selective_copying.json and results/5/induction.json. Two blocks as the library's language models have
them (`cells.Residual`, root-mean-square norm, gated MLP of twice the width), width 64, an embedding below and a linear
readout above; Adam, its rate rising over the first steps and then falling linearly to 0, gradients clipped at 1. Every
batch is drawn anew. A run ends early when 99% of a validation set is right; what is reported is the accuracy on test
sequences that no run has seen. Two runs at a time, one thread each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from result import commit, write
from torch import Tensor, nn

from clew.data.synthetic import UNSCORED, induction, selective_copying
from clew.models.build import body

WIDTH, LAYERS, MLP, VOCABULARY, LENGTH, TOKENS = 64, 2, 2.0, 16, 64, 8
RATE, BATCH, STEPS, WARM_UP, CLIP = 0.01, 32, 2000, 100, 1.0
SEED, VALIDATION_SEED, TEST_SEED = 0, 1_000_001, 2_000_002
CHECK_EVERY, SOLVED, ROWS = 100, 0.99, 1000
SOLVES, CANNOT = 0.95, 0.80

# Options other than the defaults: states large enough that nobody fails for want of room, blocks of like size.
OPTIONS: dict[str, dict[str, Any]] = {
    "lru": {"state_size": 128},
    "s5": {"state_size": 128},
    "mamba2": {"state": 64},
    "attention": {"window": 4 * LENGTH},
}
CELLS = (
    *("mingru", "minlstm", "rglru", "mamba", "mamba2", "gla", "mlstm", "rwkv6", "rwkv7", "deltanet", "gated_deltanet"),
    *("attention", "lstm", "gru", "lru", "s5", "retnet"),
)


class Task(NamedTuple):
    """Args: draw(rows, length, generator); the lengths of test sequences, the first that of training; who must solve
    it at which lengths, and who cannot, by which papers."""

    line: str
    draw: Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]
    lengths: tuple[int, ...]
    solvers: dict[str, str]
    cannot: dict[str, str]


TASKS = {
    "selective_copying": Task(
        f"selective copying: {TOKENS} data of {VOCABULARY - 2} kinds at random places among {LENGTH} steps of noise,"
        f" then given in order; accuracy of a token (guessing: {1 / (VOCABULARY - 2):.3f})",
        lambda rows, length, generator: selective_copying(rows, length, TOKENS, VOCABULARY, generator),
        (LENGTH,),
        {
            "mamba": "arXiv:2312.00752, table 1",
            "mingru": "arXiv:2410.01201, table 1",
            "minlstm": "arXiv:2410.01201, table 1",
            "rglru": "arXiv:2402.19427, section 6.2",
            "attention": "arXiv:2402.19427, section 6.2",
            "deltanet": "arXiv:2406.06484, MAD",
            "rwkv7": "arXiv:2503.14456, MAD",
        },
        {name: "time-invariant: arXiv:2312.00752, section 4.1.1" for name in ("lru", "s5", "retnet")},
    ),
    "induction": Task(
        f"induction heads: what followed a token the first time, trained at {LENGTH} steps; accuracy by length"
        f" (guessing: {1 / (VOCABULARY - 1):.3f})",
        lambda rows, length, generator: induction(rows, length, VOCABULARY, generator),
        (LENGTH, 2 * LENGTH, 4 * LENGTH),
        {
            "mamba": "arXiv:2312.00752, table 2",
            "rglru": "arXiv:2402.19427, section 6.2",
            "attention": "arXiv:2209.11895",
        },
        {},
    ),
}


def model(cell: str) -> nn.ModuleDict:
    inner = body(cell, WIDTH, WIDTH, LAYERS, norm="rms", mlp=MLP, options=OPTIONS.get(cell))
    return nn.ModuleDict({"embed": nn.Embedding(VOCABULARY, WIDTH), "body": inner, "head": nn.Linear(WIDTH, VOCABULARY)})
