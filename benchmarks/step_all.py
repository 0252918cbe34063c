"""One step of every recurrence at batch 1 on one thread: its Stepper beside that of an LSTM of as many parameters.

python benchmarks/step_all.py

Writes results/5/step.json: microseconds by width, and how many times those of the LSTM. A Stepper whose numbers are not
those of the model's own pass is not timed.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch
from cpu_step import measured_turns
from race import Differ, ratio, spread
from result import commit, write

from clew.cells import LSTM, RECURRENCES
from clew.ops import native
from clew.stream import Stepper

WIDTHS = (64, 128, 256)
MIXER = 256  # the width of the race in mixers.py
BAR, TOLERANCE = 3.0, 1e-4
CLASSICAL = ("elman", "gru", "lstm")


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def as_large(count: int) -> LSTM:
    """The square LSTM whose number of parameters, 8 H^2 + 8 H, is the nearest."""
    H = round((count / 8 + 0.25) ** 0.5 - 0.5)
    return LSTM(H, H)


def point(name: str, width: int) -> dict[str, Any]:
    torch.manual_seed(0)
    cell = RECURRENCES[name](width, width).eval()
    lstm = as_large(parameters(cell))
    ours, theirs = Stepper(cell), Stepper(lstm)
    error = ours.error(torch.randn(1, 300, width, generator=torch.Generator().manual_seed(1)))
    if not error <= TOLERANCE:
        raise Differ(f"the Stepper of {name} differs from its own pass by {error:.1e}")
    xs = [np.random.default_rng(0).normal(size=s.x.shape).astype(np.float32) for s in (ours, theirs)]
    times = measured_turns({"cell": lambda: ours.step(xs[0]), "lstm": lambda: theirs.step(xs[1])})
    return {
        "us": {each: round(1e6 * statistics.median(t), 2) for each, t in times.items()},
        "times_the_lstm": round(1 / ratio(times, "cell", "lstm"), 2),
        "quarters": sorted(round(1 / q, 2) for q in spread(times, "cell", "lstm")),
        "parameters": [parameters(cell), parameters(lstm)],
        "error": error,
    }


def main() -> None:
    measured, figure = commit(), {}
    torch.set_num_threads(1)
    for name in RECURRENCES:
        figure[name] = {width: point(name, width) for width in WIDTHS}
        print(name, {width: (at["us"], at["times_the_lstm"]) for width, at in figure[name].items()}, flush=True)
    modern = [name for name in figure if name not in CLASSICAL]
    over = {w: [name for name in modern if figure[name][w]["times_the_lstm"] > BAR] for w in WIDTHS}
    write(
        "5/step",
        "one step by a Stepper at batch 1, one thread, beside the Stepper of an LSTM of as many parameters",
        seeds=[0],
        figure={"over_the_bar": over, "cells": figure},
        bar=f"at most {BAR} times the LSTM's at the mixers' width of {MIXER}, for each",
        met=not over[MIXER],
        measured=measured,
        kernels=(native.native_info() or {}).get("instruction_set"),
    )


if __name__ == "__main__":
    main()
