"""Triton's kernels without a GPU: python benchmarks/interpreted.py

The tests of them, which run small tiles through Triton's interpreter and compile every kernel for an H100; then each
kernel at the tiles that a GPU gets, against its definition. Writes results/10/interpreter.json.
"""

from __future__ import annotations

import os
import time

os.environ["TRITON_INTERPRET"] = "1"

import torch
from result import commit, write
from soak import tests

from clew.ops.triton import trust

SECONDS = 60


def main() -> None:
    at, began = commit(), time.perf_counter()
    found = tests("tests/ops/test_triton.py", "tests/ops/test_triton_classical.py")
    seconds = time.perf_counter() - began
    large = {name: law(torch.float32, torch.device("cpu")) for name, law in trust.LAWS.items()}
    near = trust.NEAR[torch.float32]
    right = found["passed"] > 0 and not found["failed"] and not found["skipped"] and max(large.values()) <= near
    write(
        "10/interpreter",
        "Triton's kernels by its interpreter: their tests, and each at the tiles of a GPU against its definition",
        seeds=[0],
        figure={**found, "seconds": round(seconds, 1), "differences at the tiles of a GPU": large},
        bar=f"all pass, none is skipped, in under {SECONDS} seconds; differences of at most {near}",
        met=right and seconds < SECONDS,
        measured=at,
    )


if __name__ == "__main__":
    main()
