"""On a GPU: whether kernels are right there, and how fast. python benchmarks/gpu.py [--tune] [--seconds S] [--small]

First the machine's own ceilings (copying, products of matrices, a launch, programs that wait for each other), then for
each op the law that it is trusted by; with --tune which tiles and kernels are fastest, which is kept in the package by
the device's name. Then each op's passes beside torch's, beside flash-linear-attention's where that can be imported, and
beside the floor: the bytes that must move, at the speed at which this machine copies. Then LSTM and GRU beside torch's
own, training steps of language models, and steps of many streams. Nothing is timed where numbers differ.

Writes results/10/gpu.json. --small tries the command itself on any machine, with few numbers and kernels interpreted,
and writes nothing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys

if "--small" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"

import torch
from gpu_machine import Machine, ceilings
from gpu_models import language, layers, streams
from gpu_scans import scans
from race import geometric_mean
from result import ROOT, commit, write

from clew.ops import triton
from clew.ops.triton import tiles, trust

WEAK = 1.5  # times torch, where cuDNN falls back to its plain kernels, as a geometric mean
TIMES_FLOOR = {"linear_scan": 2.0, "complex": 2.0, "selective_scan": 2.0, "matrix_scan": 3.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each race")
    parser.add_argument("--tune", action="store_true", help="first measure what is fastest here, and keep it")
    parser.add_argument("--small", action="store_true", help="try the command itself")
    asked = parser.parse_args()
    if not asked.small and not torch.cuda.is_available():
        sys.exit("needs a GPU; --small tries the command without one")
    if not triton.installed():
        sys.exit("needs triton: pip install 'clew[gpu]'")
    at = commit()
    machine = Machine("cpu" if asked.small else "cuda", asked.small, 0.0 if asked.small else asked.seconds)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    tops = ceilings(machine)
    print(tops, flush=True)
    if asked.small:
        trust.CASES, trust.GATED = trust.CASES[-1:], ((2, 3, 6, 2, True),)
    laws = {}
    for (name, law), dtype in itertools.product(trust.LAWS.items(), trust.NEAR):
        if trust.takes(name, dtype) and not (asked.small and dtype != torch.float32):
            found = law(dtype, torch.device(machine.device))
            laws[f"{name}, {dtype}"] = {"difference": found, "holds": found <= trust.NEAR[dtype]}
    print({name: law for name, law in laws.items() if not law["holds"]} or "all laws hold", flush=True)
    if asked.tune and not asked.small:
        device = torch.device("cuda", torch.cuda.current_device())
        found = triton.kernels("tune").tune(device, lambda said: print(said, flush=True))
        tiles.keep(tiles.name_of(device), found, ROOT / "src/clew/ops/triton/measured")
    rows, beside = scans(machine, tops["copied bytes a second"]), layers(machine)
    tokens, moved = language(machine), streams(machine)
    raced = [row for row in beside if not isinstance(row["faster than torch"], str)]
    weak, all_of = ([row["faster than torch"] for row in raced if row["weak"] or every] for every in (False, True))
    long = [row for row in rows if row["T"] >= 2048 and "times the floor" in row["both"]]
    under = [row["both"]["times the floor"] <= TIMES_FLOOR[row["op"].partition(",")[0]] for row in long]
    met = all(law["holds"] for law in laws.values()) and all(under) and geometric_mean(weak) >= WEAK
    figure = {"ceilings": tops, "laws": laws, "scans": rows, "layers": beside, "weak": geometric_mean(weak)}
    figure |= {"tokens a second": tokens, "steps of streams a second": moved}
    if asked.small:
        print("tried; nothing is written")
        return
    write(
        "10/gpu",
        "kernels on a GPU: their laws, their passes beside torch's, other libraries' and the floor, language models",
        seeds=[0],
        figure={"gpu": torch.cuda.get_device_name(), **figure},
        bar="all laws hold; LSTM and GRU 1.5 times as fast as torch (geometric mean), none under 0.95; linear_scan and"
        " selective_scan within 2 times the floor from T = 2,048 on, matrix_scan within 3",
        met=met and len(raced) == len(beside) and min(all_of) >= 0.95,
        measured=at,
    )


if __name__ == "__main__":
    main()
