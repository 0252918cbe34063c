"""Scans of `gpu.py`: every op, shape and dtype beside torch, flash-linear-attention and the floor."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from gpu_machine import Machine, Run, median
from race import ratio
from torch import Tensor

from clew import ops


def scans(machine: Machine, ceilings: dict[str, float]) -> list[dict[str, Any]]:
    """Every op, shape and dtype: forward, and forward with the gradient."""
    rows, copied = [], ceilings["copied bytes a second"]
    lengths = (5,) if machine.small else (512, 2048, 8192, 65_536)
    for T, dtype in itertools.product(lengths, (torch.float32, torch.bfloat16)):
        for name, problem in problems(T, dtype, machine).items():
            rows.append(_raced(name, problem, T, dtype, machine, copied))
            print(rows[-1], flush=True)
    return rows


class Scan(NamedTuple):
    run: Callable[..., tuple[Tensor, Tensor]]
    tensors: list[Tensor]
    peers: dict[str, Callable[..., tuple[Tensor, Tensor]]]


def problems(T: int, dtype: torch.dtype, machine: Machine) -> dict[str, Scan]:
    B, N, H, K = (1, 4, 1, 4) if machine.small else (8 if T <= 8192 else 1, 2048, 16, 64)

    def draw(*shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        drawn = torch.empty(*shape, device=machine.device).uniform_(low, high)
        return drawn.to(dtype).requires_grad_()

    def linear(a: Tensor, b: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return ops.linear_scan(a, b, h, initial=h)

    def selective(*t: Tensor) -> tuple[Tensor, Tensor]:
        return ops.selective_scan(*t, initial=t[-1])

    def matrix(q: Tensor, k: Tensor, v: Tensor, w: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
        return ops.matrix_scan(q, k, v, w, S, initial=S)

    def delta(q: Tensor, k: Tensor, v: Tensor, w: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
        key = F.normalize(k, dim=-1)
        return ops.matrix_scan(q, key, v, w, S, initial=S, erase=(-0.5 * key, key))

    def heads(W: int) -> list[Tensor]:
        keys = [draw(B, T, H, K), draw(B, T, H, K), draw(B, T, H, K)]
        return [*keys, draw(B, T, H, W, low=0.9), draw(B, H, K, K)]

    state = [draw(B, T, N), draw(B, T, N, low=0.0, high=0.1), draw(N, 16, low=-1.0, high=0.0)]
    state += [draw(B, T, 16), draw(B, T, 16), draw(B, N, 16)]
    found = {
        "linear_scan": Scan(linear, [draw(B, T, N, low=0.5), draw(B, T, N), draw(B, N)], {}),
        "complex": Scan(linear, [draw(B, T, N, 2, low=0.3, high=0.7), draw(B, T, N, 2), draw(B, N, 2)], {}),
        "selective_scan": Scan(selective, state, {}),
    }
    for name, run, W in (
        ("matrix_scan, a decay a head", matrix, 1),
        ("matrix_scan, a decay a key", matrix, K),
        ("matrix_scan, delta rule", delta, 1),
    ):
        found[name] = Scan(run, heads(W), _of_fla(name))
    return found


def _of_fla(name: str) -> dict[str, Callable[..., tuple[Tensor, Tensor]]]:
    """The same by flash-linear-attention, which needs a GPU."""
    if not torch.cuda.is_available():
        return {}
    try:
        from fla.ops.gla import chunk_gla
        from fla.ops.simple_gla import chunk_simple_gla
    except ImportError:
        return {}

    def shared(q: Tensor, k: Tensor, v: Tensor, w: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
        g = w[..., 0].float().log()
        return chunk_simple_gla(q, k, v, g, scale=1.0, initial_state=S.float(), output_final_state=True)

    def of_keys(q: Tensor, k: Tensor, v: Tensor, w: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
        return chunk_gla(q, k, v, w.float().log(), scale=1.0, initial_state=S.float(), output_final_state=True)

    ours = {"matrix_scan, a decay a head": shared, "matrix_scan, a decay a key": of_keys}
    return {"flash-linear-attention": ours[name]} if name in ours else {}


def _raced(name: str, problem: Scan, T: int, dtype: torch.dtype, machine: Machine, copied: float) -> dict[str, Any]:
    tensors = problem.tensors
    row: dict[str, Any] = {"op": name, "T": T, "shape": list(tensors[0].shape), "dtype": str(dtype)}
    along = torch.ones_like(problem.run(*tensors)[0])

    def by(only: ops.Implementation | None) -> Callable[..., tuple[Tensor, Tensor]]:
        def run(*given: Tensor) -> tuple[Tensor, Tensor]:
            if only is None:
                return problem.run(*given)
            with ops.only(only):
                return problem.run(*given)

        return run

    ways = {"clew": by("triton" if machine.small else None), "torch": by("torch"), **problem.peers}
    for what, backward in (("forward", False), ("both", True)):

        def once(way: Callable[..., tuple[Tensor, Tensor]], backward: bool = backward) -> Run:
            def run() -> list[Tensor]:
                if not backward:
                    with torch.no_grad():
                        return list(way(*tensors))
                y, last = way(*tensors)
                return [y, last, *torch.autograd.grad(y, tensors, along, allow_unused=False)]

            return run

        times = machine.race({each: once(way) for each, way in ways.items()}, 2e-3 if dtype == torch.float32 else 5e-2)
        if isinstance(times, str):
            row[what] = {"differs": times}
            continue
        given, said = sum(t.numel() * t.element_size() for t in tensors), along.numel() * along.element_size()
        # The gradient's pass reads what was given and the gradient of what was said, and writes those of the first.
        floor = (3 * given + 2 * said if backward else given + said) / copied
        row[what] = {
            "seconds": median(times["clew"]),
            "times the floor": round(median(times["clew"]) / floor, 2),
            **{f"faster than {peer}": round(ratio(times, "clew", peer), 2) for peer in times if peer != "clew"},
        }
    return row
