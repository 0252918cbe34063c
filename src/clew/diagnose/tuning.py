"""Measures which sizes of tiles are fastest on a GPU, and at which shapes the gated kernels beat cuDNN's: `tiles`."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from clew import ops
from clew.ops.definition import Weights
from clew.ops.triton import classical, grid, tiles, trust
from clew.ops.triton.tiles import Sizes

Run = Callable[[], object]
SHAPES = tuple(itertools.product(classical.BATCHES, classical.WIDTHS))
LAW = {"elementwise": "linear_scan", "selective": "selective_scan"}  # else that of `matrix_scan`
STEPS = 128
DTYPES = (torch.bfloat16, torch.float32)


def tune(device: torch.device, said: Callable[[str], None], times: int = 5) -> dict[str, Sizes]:
    """What is fastest, by kernel; of sizes that do not fit the device it says nothing. Takes minutes: kernels of every
    size are compiled."""
    found: dict[str, Sizes] = {}
    for kernel, choices in tiles.CHOICES.items():
        if right(kernel, None, device):  # else nothing is raced: torch would be timed
            sizes = fastest(kernel, choices, problems(kernel, device), times)
            if right(kernel, sizes, device):
                found[kernel] = sizes
        said(f"{kernel}: {', '.join(f'{name} {n}' for name, n in found.get(kernel, {}).items()) or 'not right here'}")
    found["classical"] = {}
    for cell, dtype, (B, H) in itertools.product(("lstm", "gru", "tanh"), DTYPES, SHAPES):
        name = classical.shape_name(cell, dtype, B, H)
        found["classical"][name] = percent(cell, dtype, B, H, STEPS, device, times)
        said(f"{name}: {found['classical'][name]}% of cuDNN's speed")
    return found


def right(kernel: str, sizes: Sizes | None, device: torch.device) -> bool:
    """Whether a kernel's law holds with such tiles."""
    tiles.trying(kernel, sizes)
    trust.forget()
    try:
        laws = [trust.trusted(LAW.get(kernel, "matrix_scan"), dtype, device) for dtype in DTYPES]
    finally:
        tiles.trying(kernel, None)
    return all(laws)


def fastest(kernel: str, choices: dict[str, tuple[int, ...]], runs: Iterable[Run], times: int) -> Sizes:
    """The sizes at which runs take the least time, as a geometric mean."""
    runs, best, least = list(runs), tiles.GUESS[kernel], math.inf
    for values in itertools.product(*choices.values()):
        sizes = tiles.GUESS[kernel] | dict(zip(choices, values, strict=True))
        tiles.trying(kernel, sizes)
        try:
            seconds = math.prod(clock(run, times) for run in runs)
        except Exception:  # what a compiler or a driver says of tiles that do not fit
            continue
        finally:
            tiles.trying(kernel, None)
        if seconds < least:
            best, least = sizes, seconds
    return best


def percent(cell: str, dtype: torch.dtype, B: int, H: int, T: int, device: torch.device, times: int) -> int:
    """How fast a layer learns by our kernels, in percent of how fast it does by torch's; 0 where ours do not run."""
    x, state, w = _layer(cell, dtype, B, H, T, device)
    scan = {"lstm": ops.lstm_scan, "gru": ops.gru_scan}.get(cell, ops.elman_scan)
    leaves = [x, *(t for t in w if isinstance(t, Tensor))]

    def run(only: ops.Implementation) -> Run:
        def once() -> object:
            with ops.only(only):
                y, _ = scan(x, (*state, ()), w, initial=(*state, ()))
            return torch.autograd.grad(y.float().sum(), leaves)

        return once

    if not trust.trusted(cell, dtype, device):
        return 0
    try:
        ours = clock(run("triton"), times)
    except Exception:  # as above
        return 0
    return max(1, round(100 * clock(run("torch"), times) / ours))


def clock(run: Run, times: int) -> float:
    """The median of seconds, after one run that compiles."""
    taken = []
    for _ in range(times + 1):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def _layer(
    cell: str, dtype: torch.dtype, B: int, H: int, T: int, device: torch.device
) -> tuple[Tensor, tuple[Tensor, ...], Weights]:
    G = grid.GATES[cell]

    def draw(*shape: int) -> Tensor:
        return (torch.randn(*shape, device=device) * H**-0.5).to(dtype).requires_grad_()

    state = tuple(torch.zeros(B, H, device=device, dtype=dtype) for _ in range(2 if cell == "lstm" else 1))
    return draw(B, T, H), state, Weights(draw(G * H, H), draw(G * H, H), draw(G * H), draw(G * H))


def problems(kernel: str, device: torch.device, B: int = 8, T: int = 2048, N: int = 2048) -> list[Run]:
    """Passes that are worth being fast, with gradients but for `matrix`, in bfloat16 where that is."""
    dtype, K = torch.bfloat16, min(N, 64)

    def draw(*shape: int, low: float = -1.0) -> Tensor:
        return torch.empty(*shape, device=device).uniform_(low, 1.0).to(dtype).requires_grad_(kernel != "matrix")

    def both(scan: Callable[..., tuple[Tensor, Tensor]], tensors: list[Tensor]) -> Run:
        def run() -> object:
            with ops.only("triton"):
                y, _ = scan(*tensors)
            return y if kernel == "matrix" else torch.autograd.grad(y.float().sum(), tensors, allow_unused=True)

        return run

    if kernel == "elementwise":
        given = [draw(B, T, N, low=0.5), draw(B, T, N), draw(B, N)]
        return [both(lambda a, b, h: ops.linear_scan(a, b, h, initial=h), given)]
    if kernel == "selective":
        given = [draw(B, T, N), draw(B, T, N, low=0.0), draw(N, min(N, 16)), draw(B, T, min(N, 16))]
        given += [draw(B, T, min(N, 16)), draw(B, N, min(N, 16))]
        return [both(lambda x, dt, A, *t: ops.selective_scan(x, dt.abs() / 10, -A.abs(), *t, initial=t[-1]), given)]
    H = max(1, N // 128)
    runs = []
    for W, erase in ((1, False), (K, False), (1, True)):
        given = [draw(B, T, H, K), draw(B, T, H, K), draw(B, T, H, K), draw(B, T, H, W, low=0.9), draw(B, H, K, K)]

        def scan(q: Tensor, k: Tensor, v: Tensor, w: Tensor, S: Tensor, erase: bool = erase) -> tuple[Tensor, Tensor]:
            key = torch.nn.functional.normalize(k, dim=-1)
            return ops.matrix_scan(q, key, v, w, S, initial=S, erase=(-0.5 * key, key) if erase else None)

        runs.append(both(scan, given))
    return runs
