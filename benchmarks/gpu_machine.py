"""The machine of `gpu.py`: races on it, and its own ceilings."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from race import Differ, check, turns
from torch import Tensor

from clew.ops.triton import tiles
from clew.ops.triton.gated import wait

Run = Callable[[], list[Tensor]]


class Machine(NamedTuple):
    device: str
    small: bool
    seconds: float

    def done(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def race(self, runners: dict[str, Run], tolerance: float) -> dict[str, list[float]] | str:
        """Seconds of each, turn by turn; or in what they differ."""

        def numbers(run: Run) -> Callable[[], list[np.ndarray]]:
            return lambda: [t.detach().double().cpu().numpy() for t in run()]

        def timed(run: Run) -> Callable[[], list[Tensor]]:
            def once() -> list[Tensor]:
                found = run()
                self.done()
                return found

            return once

        (first, ours), *others = runners.items()
        kept = {first: ours}
        for name, theirs in others:
            try:
                check({first: numbers(ours), name: numbers(theirs)}, tolerance)
                kept[name] = theirs
            except (Differ, torch.OutOfMemoryError) as error:
                if name == others[0][0]:  # torch, which says what is right
                    return str(error)
                print(f"{name} is not timed: {error}", flush=True)
        return turns({name: timed(run) for name, run in kept.items()}, self.seconds, 1 if self.small else 5)


def median(times: list[float]) -> float:
    return float(np.median(times))


@triton.jit
def _waits(counter, times):
    for n in range(0, times):
        wait(counter, (n + 1) * tl.num_programs(1))


def ceilings(machine: Machine) -> dict[str, float]:
    """Bytes a second that a copy moves, operations a second of products, seconds of a launch and of nothing."""
    size = 1 << (16 if machine.small else 28)
    x = torch.empty(size, device=machine.device)
    y = torch.empty_like(x)
    found = {"copied bytes a second": 8 * size / least(lambda: y.copy_(x), machine)}
    n = 64 if machine.small else 8192
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(n, n, device=machine.device, dtype=dtype)
        found[f"operations a second, {dtype}"] = 2 * n**3 / least(lambda a=a: a @ a, machine)
    one = torch.zeros(1, device=machine.device)
    found["seconds of a launch"] = least(lambda: [one.add_(1.0) for _ in range(100)], machine) / 100
    programs, times = tiles.programs(torch.device(machine.device)), 1 if machine.small else 1000
    options = {} if machine.small else {"launch_cooperative_grid": True}

    def waited() -> None:
        _waits[1, programs](torch.zeros(1, dtype=torch.int32, device=machine.device), times, **options)

    found["seconds until all programs have waited for each other"] = least(waited, machine) / times
    return found


def least(run: Callable[[], Any], machine: Machine) -> float:
    best = np.inf
    for _ in range(3 if machine.small else 20):
        began = time.perf_counter()
        run()
        machine.done()
        best = min(best, time.perf_counter() - began)
    return best
