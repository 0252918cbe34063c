"""What is measured on a GPU, with Triton's interpreter in its place."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clew.diagnose import tuning
from clew.ops import triton
from clew.ops.triton import tiles, trust

there = triton.installed() and triton.interpreted()
pytestmark = pytest.mark.skipif(not there, reason="needs Triton, and TRITON_INTERPRET=1")


def test_tuning_takes_what_is_fastest_and_passes_over_what_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    device, seen = torch.device("cpu"), []

    def clock(run: Any, times: int) -> float:
        run()
        sizes = tiles.of("elementwise", device)
        seen.append(sizes["steps"])
        if sizes["steps"] == 2:
            raise RuntimeError("out of resource: shared memory")
        return abs(sizes["steps"] - 4) + sizes["num_warps"]

    monkeypatch.setattr(tuning, "clock", clock)
    runs = tuning.problems("elementwise", device, B=1, T=3, N=2)
    found = tuning.fastest("elementwise", {"steps": (2, 4, 8), "num_warps": (2, 4)}, runs, 1)
    assert sorted(seen) == [2, 2, 4, 4, 8, 8]
    assert (found["steps"], found["num_warps"]) == (4, 2)
    assert tiles.of("elementwise", device) == tiles.GUESS["elementwise"]


@pytest.mark.parametrize("kernel", tiles.CHOICES)
def test_tuning_runs(kernel: str) -> None:
    runs = tuning.problems(kernel, torch.device("cpu"), B=1, T=3, N=2)
    assert tuning.fastest(kernel, {"num_warps": (4,)}, runs[:1], 1) == tiles.GUESS[kernel] | {"num_warps": 4}


@pytest.mark.parametrize("cell", ["lstm", "gru", "tanh"])
def test_gated_kernels_are_measured_beside_torch(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "trusted", lambda *_: True)
    assert tuning.percent(cell, torch.float32, 2, 3, 2, torch.device("cpu"), 1) >= 1
    monkeypatch.setattr(trust, "trusted", lambda *_: False)
    assert tuning.percent(cell, torch.float32, 2, 3, 2, torch.device("cpu"), 1) == 0
