"""On a GPU: whether kernels are right there, and how fast. python benchmarks/gpu.py [PARTS] [--seconds S] [--small]

First the machine's own ceilings: copying, products of matrices, a launch, programs that wait for each other. Then

laws      the law that each op is trusted by
tune      which tiles and kernels are fastest, which is kept in the package by the device's name; when it is asked for
scans     each op's passes beside torch's, beside flash-linear-attention's where that can be imported, and beside the
          floor: the bytes that must move, at the speed at which this machine copies
layers    LSTM and GRU beside torch's own
models    training steps of language models
streams   steps of many streams

Nothing is timed where numbers differ. Every part is written to results/10/gpu.json when it ends, beside those that were
run at the same commit. --small tries the command itself on any machine, with few numbers and kernels interpreted, and
writes whether it ran and what was right to results/10/without_gpu.json, and no times.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from typing import Any

if "--small" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
from gpu_machine import Machine, ceilings
from gpu_models import language, layers, streams
from gpu_scans import scans
from race import geometric_mean
from result import ROOT, commit, write

from clew.diagnose import tuning
from clew.ops import triton
from clew.ops.triton import tiles, trust

FILE = ROOT / "results/10/gpu.json"
WEAK = 1.5  # times torch, where cuDNN falls back to its plain kernels, as a geometric mean
TIMES_FLOOR = {"linear_scan": 2.0, "complex": 2.0, "selective_scan": 2.0, "matrix_scan": 3.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each race")
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; without any, all but tune")
    parser.add_argument("--small", action="store_true", help="try the command itself")
    asked = parser.parse_args()
    if not asked.small and not torch.cuda.is_available():
        sys.exit("needs a GPU; --small tries the command without one")
    if not triton.installed():
        sys.exit("needs triton: pip install 'clew[gpu]'")
    machine = Machine("cpu" if asked.small else "cuda", asked.small, 0.0 if asked.small else asked.seconds)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if asked.small:
        trust.CASES, trust.GATED = trust.CASES[-1:], ((2, 3, 6, 2, True),)
    at, figure = commit(), {"gpu": "none" if asked.small else torch.cuda.get_device_name()}
    if FILE.exists() and (before := json.loads(FILE.read_text()))["commit"] == at and not asked.small:
        figure = before["figure"]  # of parts that were run before
    figure["ceilings"] = ceilings(machine)
    print(figure["ceilings"], flush=True)
    for part in asked.parts or [part for part in PARTS if part != "tune"]:
        figure[part] = PARTS[part](machine, figure["ceilings"])
        if not asked.small:
            write(
                "10/gpu",
                "kernels on a GPU: laws, passes beside torch's, other libraries' and the floor, models, streams",
                seeds=[0],
                figure=figure,
                bar="all laws hold; LSTM and GRU 1.5 times as fast as torch where cuDNN is weak (geometric mean), none"
                " under 0.95; linear_scan and selective_scan within 2 times the floor from T = 2,048 on, matrix_scan"
                " within 3",
                met=met(figure),
                measured=at,
            )
    if asked.small and not asked.parts:
        differ = [row for row in figure["scans"] if "differs" in row["forward"] or "differs" in row["both"]]
        differ += [row for row in figure["layers"] if isinstance(row["faster than torch"], str)]
        write(
            "10/without_gpu",
            "the command for a GPU, tried without one: each of its parts with few numbers and kernels interpreted",
            seeds=[0],
            figure={
                "laws": figure["laws"],
                "rows raced": len(figure["scans"]) + len(figure["layers"]),
                "differ": differ,
            },
            bar="every part runs, every law holds, no numbers differ; no time is claimed",
            met=not differ and all(law["holds"] for law in figure["laws"].values()),
            measured=at,
        )


def laws(machine: Machine, _: dict[str, float]) -> dict[str, dict[str, Any]]:
    """How far each kernel is from its definition, and whether that is near enough."""
    found = {}
    for (name, law), dtype in itertools.product(trust.LAWS.items(), trust.NEAR):
        if trust.takes(name, dtype) and not (machine.small and dtype != torch.float32):
            apart = law(dtype, torch.device(machine.device))
            found[f"{name}, {dtype}"] = {"difference": apart, "holds": apart <= trust.NEAR[dtype]}
            print(name, dtype, found[f"{name}, {dtype}"], flush=True)
    return found


def tune(machine: Machine, _: dict[str, float]) -> dict[str, dict[str, int]]:
    """Which tiles and kernels are fastest, kept in the package by the device's name."""
    if machine.small:
        return {}
    device = torch.device("cuda", torch.cuda.current_device())
    found = tuning.tune(device, lambda said: print(said, flush=True))
    tiles.keep(tiles.name_of(device), found, ROOT / "src/clew/ops/triton/measured")
    return found


PARTS = {"laws": laws, "tune": tune, "scans": scans, "layers": layers, "models": language, "streams": streams}


def met(figure: dict[str, Any]) -> bool:
    """Whether all was run, nothing differed, and every bar is reached."""
    if not {*PARTS} - {"tune"} <= figure.keys():
        return False
    ratios = [row["faster than torch"] for row in figure["layers"]]
    long = [row["both"].get("times the floor", np.inf) for row in figure["scans"] if row["T"] >= 2048]
    bars = [TIMES_FLOOR[row["op"].partition(",")[0]] for row in figure["scans"] if row["T"] >= 2048]
    if any(isinstance(ratio, str) for ratio in ratios):
        return False
    weak = [row["faster than torch"] for row in figure["layers"] if row["weak"]]
    right = all(law["holds"] for law in figure["laws"].values())
    near = all(times <= bar for times, bar in zip(long, bars, strict=True))
    return right and near and min(ratios) >= 0.95 and geometric_mean(weak) >= WEAK


if __name__ == "__main__":
    main()
