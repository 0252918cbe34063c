"""Training passes on the CPU (forward and backward, with the gradient of the input) beside torch and jax.

python benchmarks/cpu_train.py [--seconds S] [--cells gru,elman,lstm] [--only grid|ragged|memory|growth]

Writes results/4/train.json, ragged.json, memory.json and growth.json. jax is raced where it is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from race import Differ, Numbers, check, geometric_mean, ratio, spread, turns
from result import commit, write
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from clew import cells

GRID = [
    (1, 256, 64, 64),
    (1, 512, 128, 128),
    (16, 512, 32, 64),
    (32, 128, 64, 128),
    (32, 256, 128, 256),
    (64, 128, 256, 512),
    (128, 64, 128, 128),
]
OURS = {"elman": cells.Elman, "gru": cells.GRU, "lstm": cells.LSTM}
THEIRS = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
BARS = {"elman": 3.0, "gru": 4.0, "lstm": 1.5}
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
TOLERANCE = 2e-4  # of the largest number: sums over up to 16,384 steps, in single precision


class Case:
    """The same weights and inputs for all."""

    def __init__(self, cell: str, B: int, T: int, I: int, H: int) -> None:
        torch.manual_seed(0)
        self.cell, self.sizes = cell, (B, T, I, H)
        self.ours, self.theirs = OURS[cell](I, H), THEIRS[cell](I, H, batch_first=True)
        with torch.no_grad():
            for name in NAMES:
                getattr(self.ours, name).copy_(getattr(self.theirs, f"{name}_l0"))
        self.x, self.along = torch.randn(B, T, I, requires_grad=True), torch.randn(B, T, H)

    def pass_of(self, module: nn.Module, run: Callable[[], Tensor]) -> Callable[[], list[Tensor]]:
        weights = [getattr(module, name, None) for name in NAMES]
        weights = [getattr(module, f"{name}_l0") if w is None else w for name, w in zip(NAMES, weights, strict=True)]

        def train() -> list[Tensor]:
            y = run()
            return [y.detach(), *torch.autograd.grad(y, [self.x, *weights], self.along)]

        return train

    def runners(self, lengths: Tensor | None = None) -> dict[str, Callable[[], Any]]:
        def packed() -> Tensor:
            entered = pack_padded_sequence(self.x, lengths, batch_first=True, enforce_sorted=False)
            return pad_packed_sequence(self.theirs(entered)[0], batch_first=True, total_length=self.sizes[1])[0]

        plain = self.pass_of(self.theirs, lambda: self.theirs(self.x)[0])
        return {
            "clew": self.pass_of(self.ours, lambda: self.ours(self.x, lengths=lengths)[0]),
            "torch": plain if lengths is None else self.pass_of(self.theirs, packed),
        }


def with_jax(case: Case) -> Callable[[], Any] | None:
    """The same pass by jax: a jitted scan, the input's part in one product before it."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    H = case.sizes[3]

    def step(cell: str, hh, b_hh):
        def elman(h, gx):
            h = jnp.tanh(gx + h @ hh.T + b_hh)
            return h, h

        def gru(h, gx):
            gh = h @ hh.T + b_hh
            r, u = jax.nn.sigmoid(gx[:, :H] + gh[:, :H]), jax.nn.sigmoid(gx[:, H : 2 * H] + gh[:, H : 2 * H])
            n = jnp.tanh(gx[:, 2 * H :] + r * gh[:, 2 * H :])
            h = n + u * (h - n)
            return h, h

        def lstm(state, gx):
            h, c = state
            i, f, g, o = jnp.split(gx + h @ hh.T + b_hh, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        return {"elman": elman, "gru": gru, "lstm": lstm}[cell]

    def forward(x, ih, hh, b_ih, b_hh):
        gx = jnp.swapaxes(x @ ih.T + b_ih, 0, 1)
        h = jnp.zeros((x.shape[0], H))
        _, y = jax.lax.scan(step(case.cell, hh, b_hh), (h, h) if case.cell == "lstm" else h, gx)
        return jnp.swapaxes(y, 0, 1)

    @jax.jit
    def train(arguments, along):
        y, pull = jax.vjp(forward, *arguments)
        return (y, *pull(along))

    arguments = [jnp.asarray(t.detach().numpy()) for t in (case.x, *(getattr(case.ours, name) for name in NAMES))]
    along = jnp.asarray(case.along.numpy())
    return lambda: jax.block_until_ready(train(arguments, along))


def numbers(run: Callable[[], Any]) -> Callable[[], Numbers]:
    return lambda: [np.asarray(t) for t in run()]


def raced(runners: dict[str, Callable[[], Any]], seconds: float) -> dict[str, Any]:
    differences = check({name: numbers(run) for name, run in runners.items()}, TOLERANCE)
    times = turns(runners, seconds)
    against = [name for name in runners if name != "clew"]
    ratios = {name: ratio(times, "clew", name) for name in against}
    if min(ratios.values()) < 0.95:  # a point that loses is timed again before it counts
        times = turns(runners, 2 * seconds)
        ratios = {name: ratio(times, "clew", name) for name in against}
    return {
        "ms": {name: round(1e3 * statistics.median(t), 3) for name, t in times.items()},
        "ratio": {name: round(r, 3) for name, r in ratios.items()},
        "quarters": {name: spread(times, "clew", name) for name in against},
        "difference": differences,
    }


def grid(names: list[str], seconds: float) -> None:
    measured, figure, met = commit(), {}, True
    better = []
    for cell in names:
        points = []
        for sizes in GRID:
            case = Case(cell, *sizes)
            runners, jax = case.runners(), with_jax(case)
            if jax:
                runners["jax"] = jax
            points.append({"sizes": sizes, **raced(runners, seconds)})
            better.append(min(points[-1]["ratio"].values()))
            print(cell, sizes, points[-1]["ms"], points[-1]["ratio"], flush=True)
        mean = geometric_mean([p["ratio"]["torch"] for p in points])
        least = min(p["ratio"]["torch"] for p in points)
        figure[cell] = {"geometric_mean": round(mean, 3), "least": least, "bar": BARS[cell], "points": points}
        met = met and mean >= BARS[cell] and least >= 0.95
        print(f"{cell}: {mean:.2f}x torch over the grid, least {least:.2f}x (bar {BARS[cell]}x)", flush=True)
    figure["better_of_both"] = round(geometric_mean(better), 3)
    print(f"against the better of torch and jax at each point: {figure['better_of_both']:.2f}x (bar 1.5x)")
    write(
        "4/train",
        "Training passes against torch and jax: medians of ratios in turns, 2 threads",
        seeds=[0],
        figure=figure,
        bar="GRU 4x, RNN 3x, LSTM 1.5x torch (geometric means), no point under 0.95x; 1.5x the better of torch and jax",
        met=met and figure["better_of_both"] >= 1.5 and set(names) == set(OURS),
        measured=measured,
        threads=torch.get_num_threads(),
    )


def ragged(names: list[str], seconds: float) -> None:
    measured, figure = commit(), {}
    for cell in names:
        points = []
        for sizes in [s for s in GRID if s[0] > 1]:
            case = Case(cell, *sizes)
            B, T = sizes[:2]
            lengths = torch.randint(T // 10, T + 1, (B,), generator=torch.Generator().manual_seed(1))
            lengths[0] = T
            with torch.no_grad():
                case.along *= (torch.arange(T) < lengths[:, None])[:, :, None]
            points.append({"sizes": sizes, **raced(case.runners(lengths), seconds)})
            print("ragged", cell, sizes, points[-1]["ms"], points[-1]["ratio"], flush=True)
        figure[cell] = {
            "geometric_mean": round(geometric_mean([p["ratio"]["torch"] for p in points]), 3),
            "points": points,
        }
        print(f"ragged {cell}: {figure[cell]['geometric_mean']:.2f}x torch's packed path (bar 3x)", flush=True)
    write(
        "4/ragged",
        "Rows of 10-100% of T against torch's packed path: medians of ratios in turns, 2 threads",
        seeds=[0],
        figure=figure,
        bar="at least 3x, each cell's geometric mean",
        met=min(f["geometric_mean"] for f in figure.values()) >= 3 and set(names) == set(OURS),
        measured=measured,
    )


PEAK = """
import gc, json, sys, torch
sys.path.insert(0, {folder!r})
from cpu_train import Case
runner = Case({cell!r}, *{sizes!r}).runners()[{name!r}]
torch.set_num_threads(2)
def held(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))
Case({cell!r}, 2, 8, 8, 8).runners()[{name!r}]()  # libraries load and start here
gc.collect()
open("/proc/self/clear_refs", "w").write("5")
before = held("VmRSS")
runner()
print(json.dumps(held("VmHWM") - before))
"""


def memory(names: list[str]) -> None:
    """The most that one training pass holds beyond what stood before it, each in a process of its own."""
    measured, figure, met = commit(), {}, True
    folder = str(Path(__file__).parent)
    for cell in names:
        for sizes in [(16, 512, 32, 64), (32, 256, 128, 256), (128, 64, 128, 128)]:
            peaks = {}
            for name in ("clew", "torch"):
                code = PEAK.format(folder=folder, cell=cell, sizes=sizes, name=name)
                done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
                peaks[name] = json.loads(done.stdout) / 1024
            figure[f"{cell} {sizes}"] = {name: round(peak, 1) for name, peak in peaks.items()}
            met = met and peaks["clew"] <= peaks["torch"]
            print("memory", cell, sizes, figure[f"{cell} {sizes}"], "MiB", flush=True)
    write(
        "4/memory",
        "Peak memory of a training pass, MiB beyond what stood before it",
        seeds=[0],
        figure=figure,
        bar="no more than torch's",
        met=met,
        measured=measured,
    )


FIRST = """
import json, sys, time
sys.path.insert(0, {folder!r})
from cpu_train import Case, torch, with_jax
torch.set_num_threads(2)
case = Case("gru", *{sizes!r})
began = time.perf_counter()
runner = with_jax(case) if {name!r} == "jax" else case.runners()[{name!r}]
if runner:
    runner()
print(json.dumps(runner and 1e3 * (time.perf_counter() - began)))
"""


def first_pass(sizes: tuple[int, ...]) -> dict[str, float]:
    """ms from a model that stands to the end of its first training pass, each in a process of its own: medians of 3."""
    found = {}
    for name in ("clew", "torch", "jax"):
        code = FIRST.format(folder=str(Path(__file__).parent), sizes=sizes, name=name)
        command = [sys.executable, "-c", code]
        times = [json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) for _ in range(3)]
        if None not in times:  # where jax is installed
            found[name] = round(statistics.median(times), 1)
    return found


def growth(seconds: float) -> None:
    """How a training pass of a GRU grows with B, T and H, what threads bring, what the first one takes: no bar."""
    measured, figure = commit(), {}
    base = (32, 128, 64, 128)
    for name, place, values in (("B", 0, [1, 4, 16, 64]), ("T", 1, [32, 128, 512]), ("H", 3, [32, 64, 128, 256])):
        for value in values:
            sizes = tuple(value if i == place else size for i, size in enumerate(base))
            runners = Case("gru", *sizes).runners()
            times = turns(runners, seconds, most=20)
            figure[f"{name}={value}"] = {n: round(1e3 * statistics.median(t), 3) for n, t in times.items()}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        times = turns(Case("gru", *base).runners(), seconds, most=20)
        figure[f"threads={threads}"] = {n: round(1e3 * statistics.median(t), 3) for n, t in times.items()}
    torch.set_num_threads(2)
    figure["first pass"] = first_pass(base)
    print(json.dumps(figure, indent=1))
    write(
        "4/growth",
        "A GRU's training pass by size and threads, and the first one, ms: (32, 128, 64, 128) and one number changed",
        seeds=[0],
        figure=figure,
        bar="reported",
        met=True,
        measured=measured,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="for each point")
    parser.add_argument("--cells", default="gru,elman,lstm")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    names = arguments.cells.split(",")
    parts = {
        "grid": lambda: grid(names, arguments.seconds),
        "ragged": lambda: ragged(names, arguments.seconds),
        "memory": lambda: memory(names),
        "growth": lambda: growth(arguments.seconds / 3),
    }
    try:
        for name, part in parts.items():
            if arguments.only in ("", name):
                part()
    except Differ as error:
        sys.exit(f"numbers differ, nothing is timed: {error}")


if __name__ == "__main__":
    main()
