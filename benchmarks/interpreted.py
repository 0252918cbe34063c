"""Triton's kernels without a GPU: python benchmarks/interpreted.py

The tests of them, which run small tiles through Triton's interpreter and compile kernels for an H100; then each kernel
at the tiles that a GPU gets, against its definition, and compiled in all its forms. Writes results/10/interpreter.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

os.environ["TRITON_INTERPRET"] = "1"

import torch
from result import ROOT, commit, write
from soak import tests

from clew.ops.triton import trust

SECONDS = 60


def main() -> None:
    os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp()  # nothing was compiled before
    at, began = commit(), time.perf_counter()
    found = tests("tests/ops/test_triton.py", "tests/ops/test_triton_classical.py", "tests/diagnose/test_tuning.py")
    seconds = time.perf_counter() - began
    large = {name: law(torch.float32, torch.device("cpu")) for name, law in trust.LAWS.items()}
    command = [sys.executable, "tests/ops/compile_kernels.py", "--all"]
    all_of_them = {"cwd": ROOT, "env": {**os.environ, "TRITON_INTERPRET": "0"}}
    compiled = subprocess.run(command, check=False, **all_of_them).returncode == 0
    near = trust.NEAR[torch.float32]
    right = found["passed"] > 0 and not found["failed"] and not found["skipped"]
    right = right and compiled and max(large.values()) <= near
    write(
        "10/interpreter",
        "Triton's kernels by its interpreter: their tests, and each at the tiles of a GPU against its definition",
        seeds=[0],
        figure={
            **found,
            "seconds": round(seconds, 1),
            "all forms compiled": compiled,
            "differences at the tiles of a GPU": large,
        },
        bar=f"all pass, none is skipped, in under {SECONDS} seconds; differences of at most {near}",
        met=right and seconds < SECONDS,
        measured=at,
    )


if __name__ == "__main__":
    main()
