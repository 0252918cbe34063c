"""On a GPU: whether kernels are right there, and how fast they are. python benchmarks/gpu.py [--seconds S] [--small]

First the machine's own ceilings (copying, products of matrices, a launch), then for each op the law that it is trusted
by, and its passes beside torch's, beside flash-linear-attention's where that can be imported, and beside the floor: the
bytes that must move, at the speed at which this machine copies. Then LSTM and GRU beside torch's own, and training
steps of language models. Nothing is timed where numbers differ.

Writes results/10/gpu.json. --small tries the command itself on any machine, with few numbers and kernels interpreted,
and writes nothing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

if "--small" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
import torch.nn.functional as F
from race import Differ, check, geometric_mean, ratio, turns
from result import commit, write
from torch import Tensor, nn

from clew import cells, ops
from clew import nn as drop_in
from clew.ops import triton
from clew.ops.triton import trust

Run = Callable[[], list[Tensor]]
CELLS = ("mingru", "rglru", "mamba", "mamba2", "gla", "retnet", "deltanet", "gated_deltanet", "rwkv7", "mlstm", "slstm")
WEAK = 1.5  # times torch, where cuDNN falls back to its plain kernels, as a geometric mean
TIMES_FLOOR = {"linear_scan": 2.0, "complex": 2.0, "selective_scan": 2.0, "matrix_scan": 3.0}


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

        try:
            check({name: numbers(run) for name, run in runners.items()}, tolerance)
        except Differ as error:
            return str(error)
        return turns({name: timed(run) for name, run in runners.items()}, self.seconds, 1 if self.small else 5)


def median(times: list[float]) -> float:
    return float(np.median(times))


def ceilings(machine: Machine) -> dict[str, float]:
    """Bytes a second that a copy moves, operations a second of products, seconds of a launch and of nothing."""
    size = 1 << (16 if machine.small else 28)
    x = torch.empty(size, device=machine.device)
    y = torch.empty_like(x)
    found = {"copied bytes a second": 8 * size / _least(lambda: y.copy_(x), machine)}
    n = 64 if machine.small else 8192
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(n, n, device=machine.device, dtype=dtype)
        found[f"operations a second, {dtype}"] = 2 * n**3 / _least(lambda a=a: a @ a, machine)
    one = torch.zeros(1, device=machine.device)
    found["seconds of a launch"] = _least(lambda: [one.add_(1.0) for _ in range(100)], machine) / 100
    return found


def _least(run: Callable[[], Any], machine: Machine) -> float:
    best = np.inf
    for _ in range(3 if machine.small else 20):
        began = time.perf_counter()
        run()
        machine.done()
        best = min(best, time.perf_counter() - began)
    return best


# ---------------------------------------------------------------------------------------------------------------- scans


def scans(machine: Machine, copied: float) -> list[dict[str, Any]]:
    """Every op, shape and dtype: forward, and forward with the gradient."""
    rows = []
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
        moved = sum(t.numel() * t.element_size() for t in tensors) + along.numel() * along.element_size()
        floor = moved * (3 if backward else 1) / copied  # again forward's, and as much for the gradients
        row[what] = {
            "seconds": median(times["clew"]),
            "times the floor": round(median(times["clew"]) / floor, 2),
            **{f"faster than {peer}": round(ratio(times, "clew", peer), 2) for peer in times if peer != "clew"},
        }
    return row


# -------------------------------------------------------------------------------------------------- classical cells


def classical(machine: Machine) -> list[dict[str, Any]]:
    """LSTM and GRU beside torch's, one layer and two, both directions. Ours are asked for."""
    rows = []
    sizes = (
        [(2, 4, 3)] if machine.small else [*itertools.product((16, 64, 256), (256,), (256, 512, 1024)), (64, 1024, 256)]
    )
    for kind, (B, T, H), dtype in itertools.product(("LSTM", "GRU"), sizes, (torch.bfloat16, torch.float32)):
        for layers, both in ((1, False), (2, False), (1, True)):
            torch.manual_seed(0)
            theirs = getattr(nn, kind)(H, H, layers, batch_first=True, bidirectional=both).to(machine.device, dtype)
            ours = getattr(drop_in, kind)(H, H, layers, batch_first=True, bidirectional=both).to(machine.device, dtype)
            ours.load_state_dict(theirs.state_dict())
            x = torch.randn(B, T, H, device=machine.device, dtype=dtype, requires_grad=True)

            def once(module: nn.Module, only: ops.Implementation, x: Tensor = x) -> Run:
                def run() -> list[Tensor]:
                    with ops.only(only):
                        y = module(x)[0]
                    return [y, *torch.autograd.grad(y.float().sum(), [x, *module.parameters()])]

                return run

            row = {"cell": kind, "B": B, "T": T, "H": H, "layers": layers, "both": both, "dtype": str(dtype)}
            times = machine.race(
                {"clew": once(ours, "triton"), "torch": once(theirs, "torch")}, 2e-3 if dtype == torch.float32 else 5e-2
            )
            row["faster than torch"] = times if isinstance(times, str) else round(ratio(times, "clew", "torch"), 3)
            rows.append(row)
            print(row, flush=True)
    return rows


# ------------------------------------------------------------------------------------------------------ language models


class Causal(nn.Module):
    """Self-attention as torch has it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, mixer: nn.Module, width: int) -> None:
        super().__init__()
        self.mixer, self.before, self.between = mixer, nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.mixer(self.before(x))
        x = x + (y[0] if isinstance(y, tuple) else y)
        return x + self.mlp(self.between(x))


def language(machine: Machine) -> dict[str, float]:
    """Tokens a second that a model of 4 blocks trains on, in bfloat16."""
    B, T, W, units = (1, 4, 16, 11) if machine.small else (8, 2048, 512, 8192)
    mixers: dict[str, Callable[[], nn.Module]] = {
        "nn.LSTM": lambda: nn.LSTM(W, W, batch_first=True),
        "Transformer": lambda: Causal(W, max(1, W // 64)),
        **{name: (lambda name=name: cells.RECURRENCES[name](W, W)) for name in CELLS[: 2 if machine.small else None]},
    }
    found = {}
    for name, mixer in mixers.items():
        torch.manual_seed(0)
        blocks = [Block(mixer(), W) for _ in range(4)]
        model = nn.Sequential(nn.Embedding(units, W), *blocks, nn.LayerNorm(W), nn.Linear(W, units))
        model = model.to(machine.device, torch.bfloat16)
        x = torch.randint(units, (B, T + 1), device=machine.device)

        def step(model: nn.Module = model, x: Tensor = x) -> None:
            loss = F.cross_entropy(model(x[:, :-1]).flatten(0, 1).float(), x[:, 1:].flatten())
            torch.autograd.grad(loss, list(model.parameters()))

        try:
            found[name] = round(B * T / _least(step, machine))
        except torch.OutOfMemoryError:
            found[name] = 0
        print(name, found[name], "tokens a second", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each race")
    parser.add_argument("--small", action="store_true")
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
    laws = {}
    for (name, kernel), dtype in itertools.product(trust.KERNELS.items(), trust.NEAR):
        sizes = {"T": 9, "N": 3, "D": 3, "G": 1, "H": 2, "K": 3, "V": 3, "W": 3} if asked.small else None
        found = trust.difference(kernel, dtype, machine.device, sizes)
        laws[f"{name}, {dtype}"] = {"difference": found, "holds": found <= trust.NEAR[dtype]}
    print({name: law for name, law in laws.items() if not law["holds"]} or "all laws hold", flush=True)
    rows, beside, tokens = scans(machine, tops["copied bytes a second"]), classical(machine), language(machine)
    ratios = [row["faster than torch"] for row in beside if not isinstance(row["faster than torch"], str)]
    long = [row for row in rows if row["T"] >= 2048 and "times the floor" in row["both"]]
    under = [row["both"]["times the floor"] <= TIMES_FLOOR[row["op"].partition(",")[0]] for row in long]
    met = all(law["holds"] for law in laws.values()) and all(under) and geometric_mean(ratios) >= WEAK
    figure = {"ceilings": tops, "laws": laws, "scans": rows, "classical": beside, "tokens a second": tokens}
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
        met=met and min(ratios) >= 0.95,
        measured=at,
    )


if __name__ == "__main__":
    main()
