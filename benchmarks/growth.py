"""How a mixer's time, operations and memory grow with the length of a sequence, beside attention over all of it.

python benchmarks/growth.py [--cells mamba,...] [--seconds S] [--draw]

B = 1, T = 256 ... 16,384, width 128, 2 threads; a training pass is forward and backward with the gradients of the input
and of all weights. Writes results/5/growth.json and docs/growth.svg; `--draw` only draws what was measured.

Operations are those of the definition's forward pass (`Operations`): what is asked for, by whichever kernel. Those of a
recurrence are run and counted up to T = 1,024, where they must lie exactly on a line, and continued along it; those of
attention are counted at every T. Attention has its window set to T and answers every query against T places, so
half of what it does is with places that are empty or masked: that is a factor, and no exponent. It keeps its
weights for the backward pass; a fused kernel would compute them twice instead, and grow in a line in memory alone.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from race import turns
from result import ROOT, commit, write
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from clew import ops
from clew.cells import RECURRENCES

WIDTH, THREADS = 128, 2
LENGTHS = [256, 512, 1024, 2048, 4096, 8192, 16384]
COUNTED = LENGTHS[:3]  # of a recurrence; its definition is a loop in Python
HELD = LENGTHS[3:]  # below, a pass holds little more than what a process gains and loses by itself
LAST = 3  # points that an exponent is fitted to
CELLS = ["lstm", "mingru", "lru", "mamba", "mamba2", "retnet", "gla", "mlstm", "deltanet", "rwkv7", "attention"]
LEAST, MOST = 1.5, 1.05  # of attention's exponent in operations; of the recurrences' in operations and memory

# glibc's malloc keeps blocks that were freed, by a threshold that it moves as it goes: the peak would be up to 1.6
# times what is held, in jumps. With one that stays, blocks that are larger are returned when they are freed.
AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536"}

MOVES = {"_to_copy", "_unsafe_view", "arange", "cat", "clone", "constant_pad_nd", "copy_", "full", "gather"}
MOVES |= {"linspace", "new_zeros", "ones_like", "promote_types", "scalar_tensor", "stack", "zeros", "zeros_like"}
PASSES = {"_softmax": 5, "native_layer_norm": 5, "cumsum": 1, "log_sigmoid_forward": 1}  # over the numbers they take


class Operations(TorchDispatchMode):
    """Counts the arithmetic that torch is asked for while it is active.

    A product of m x k and k x n is 2 m k n; one operation on numbers or one function of them (a sum, a comparison, an
    exponential) is one for each number that comes out; a sum over a dimension one for each that goes in; a softmax or a
    normalisation five for each. Views, copies and constants are none.

    Raises:
        NotImplementedError: an operation that is not known to be one of these.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm", "addmm"):
            self.count += 2 * out.numel() * args[-2].shape[-1] + (out.numel() if name == "addmm" else 0)
        elif name in PASSES or torch.Tag.reduction in func.tags:
            self.count += PASSES.get(name, 1) * args[0].numel()
        elif func.is_view or name in MOVES:
            pass
        elif torch.Tag.pointwise in func.tags:
            self.count += out.numel()
        else:
            raise NotImplementedError(f"{func}: say in growth.py what it costs")
        return out


def build(name: str, T: int, device: str = "cpu") -> tuple[torch.nn.Module, Tensor]:
    """A mixer, attention with the window set to T, and an input (1, T, WIDTH) for it."""
    torch.manual_seed(0)
    options = {"window": T} if name == "attention" else {}
    cell = RECURRENCES[name](WIDTH, WIDTH, **options).to(device)
    return cell, torch.randn(1, T, WIDTH, device=device)


def forward(name: str, T: int) -> Callable[[], Tensor]:
    cell, x = build(name, T)

    def run() -> Tensor:
        with torch.no_grad():
            return cell(x)[0]

    return run


def training(name: str, T: int) -> Callable[[], tuple[Tensor, ...]]:
    cell, x = build(name, T)
    along = torch.randn_like(x)
    learning = [x.requires_grad_(), *(p for p in cell.parameters() if p.requires_grad)]
    return lambda: torch.autograd.grad(cell(x)[0], learning, along)


def times(names: list[str], T: int, seconds: float) -> dict[str, dict[str, float]]:
    """Microseconds a token, medians over turns; fewer turns where a turn takes long."""
    found = {}
    for what, make in (("forward_us", forward), ("training_us", training)):
        taken = turns({name: make(name, T) for name in names}, seconds, least=3 if T < 8192 else 2)
        found[what] = {name: round(1e6 * statistics.median(t) / T, 3) for name, t in taken.items()}
    return found


def count(name: str, T: int, device: str) -> int:
    cell, x = build(name, T, device)
    with torch.no_grad(), ops.reference(), Operations() as operations:
        cell(x)
    return operations.count


def operations_of(name: str) -> list[int]:
    """Of a forward pass at every length. Attention needs no numbers for it: shapes on the device `meta` will do."""
    if name == "attention":
        return [count(name, T, "meta") for T in LENGTHS]
    found = [count(name, T, "cpu") for T in COUNTED]
    slope, *others = [(b - a) / (t - s) for (s, a), (t, b) in pairwise(zip(COUNTED, found, strict=True))]
    if any(other != slope for other in others):
        sys.exit(f"{name}: {found} operations in {COUNTED} steps are no line, so they cannot be continued")
    return found + [round(found[-1] + slope * (T - COUNTED[-1])) for T in LENGTHS[len(COUNTED) :]]


def peak(run: Callable[[], Any], first: Callable[[], Any]) -> float:
    """MiB that the resident set grows by at most while `run` works, after `first` has made libraries load and start.

    Only a new process can say: an older one has freed memory that it did not return.
    """

    def held(key: str) -> int:
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith(key))

    first()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark becomes what is held now
    before = held("VmRSS")
    run()
    return round((held("VmHWM") - before) / 1024, 2)


def fresh(script: str, *arguments: object) -> Any:
    """What `script --point ARGUMENTS` prints, as JSON, in a process of its own that returns what it frees at once."""
    command = [sys.executable, script, "--point", *map(str, arguments)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ | AT_ONCE).stdout)


def exponent(lengths: Sequence[int], values: Sequence[float]) -> float:
    """The slope of log values over log lengths, least squares over the last points."""
    return round(float(np.polyfit(np.log(lengths[-LAST:]), np.log(values[-LAST:]), 1)[0]), 3)


def measure(names: list[str], seconds: float) -> dict[str, dict[str, Any]]:
    figure: dict[str, dict[str, Any]] = {name: {"forward_us": [], "training_us": []} for name in names}
    for T in LENGTHS:
        for what, found in times(names, T, seconds).items():
            for name, us in found.items():
                figure[name][what].append(us)
        print(T, {name: figure[name]["training_us"][-1] for name in names}, flush=True)
    for name, row in figure.items():
        row["operations"] = operations_of(name)
        row["peak_MiB"] = [fresh(__file__, name, T) for T in HELD]
        took = {what: [us * T for us, T in zip(row[what], LENGTHS, strict=True)] for what in row if what[-2:] == "us"}
        row["exponents"] = {
            "operations": exponent(LENGTHS, row["operations"]),
            "memory": exponent(HELD, row["peak_MiB"]),
            **{what.removesuffix("_us"): exponent(LENGTHS, us) for what, us in took.items()},
        }
        print(name, row["peak_MiB"], row["exponents"], flush=True)
    return figure


def draw(figure: dict[str, dict[str, Any]]) -> None:
    """Three panels; every line has a marker of its own and is named at its end."""
    import matplotlib  # not at the top: the processes that measure memory do without it

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    picture, axes = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    million = {n: [k / T / 1e6 for k, T in zip(row["operations"], LENGTHS, strict=True)] for n, row in figure.items()}
    panels = [
        ("training, microseconds a token", LENGTHS, {name: row["training_us"] for name, row in figure.items()}),
        ("forward, million operations a token", LENGTHS, million),
        ("training, peak memory in MiB", HELD, {name: row["peak_MiB"] for name, row in figure.items()}),
    ]
    for axis, (title, lengths, lines) in zip(axes, panels, strict=True):
        axis.set(xscale="log", yscale="log", xlabel="T, steps of the sequence")
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xticks(lengths[::-2], [f"{T:,}" for T in lengths[::-2]])
        axis.yaxis.set_major_formatter("{x:,g}")
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
        values = [value for line in lines.values() for value in line]
        low, high = math.log(min(values)) - 0.2, math.log(max(values)) + 0.2
        axis.set_ylim(math.exp(low), math.exp(high))
        places = apart({name: (math.log(line[-1]) - low) / (high - low) for name, line in lines.items()})
        for k, (name, line) in enumerate(lines.items()):
            colour, place = "black" if name == "attention" else f"C{k % 10}", places[name]
            style = {"marker": "os^vD<>PXp*"[k % 11], "color": colour, "markersize": 4}
            axis.plot(lengths, line, linewidth=1, **style)
            axis.annotate(
                "",
                (lengths[-1], line[-1]),
                (1.1, place),
                textcoords="axes fraction",
                arrowprops={"arrowstyle": "-", "linewidth": 0.4, "shrinkA": 0, "shrinkB": 0},
            )
            axis.plot([1.1], [place], transform=axis.transAxes, clip_on=False, **style)
            axis.text(1.14, place, name, transform=axis.transAxes, va="center", fontsize=8)
    picture.savefig(ROOT / "docs" / "growth.svg", metadata={"Date": None})


def apart(ends: dict[str, float], gap: float = 0.055) -> dict[str, float]:
    """Heights for the names of lines that end at these, at least `gap` apart and as near as that allows: an isotonic
    regression of what remains when k gaps are taken from the k-th."""
    order, groups = sorted(ends, key=lambda name: ends[name]), []
    for k, name in enumerate(order):
        groups.append((ends[name] - k * gap, 1))
        while len(groups) > 1 and groups[-2][0] >= groups[-1][0]:
            (a, m), (b, n) = groups.pop(-2), groups.pop()
            groups.append(((m * a + n * b) / (m + n), m + n))
    heights = [height for height, n in groups for _ in range(n)]
    return {name: max(0.0, height) + k * gap for k, (name, height) in enumerate(zip(order, heights, strict=True))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default=",".join(CELLS), help="nothing is written unless it is all of them")
    parser.add_argument("--seconds", type=float, default=3.0, help="for the turns at each length, at least")
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    asked, before = parser.parse_args(), commit()
    torch.set_num_threads(THREADS)
    if asked.point:
        name, T = asked.point
        return print(json.dumps(peak(training(name, int(T)), training(name, 64))))
    if asked.draw:
        return draw(json.loads((ROOT / "results/5/growth.json").read_text())["figure"])
    names = asked.cells.split(",")
    figure = measure(names, asked.seconds)
    if set(names) != set(CELLS):
        return None
    grown = {name: row["exponents"] for name, row in figure.items()}
    least = grown["attention"]["operations"]
    most = max(grown[name][what] for name in names if name != "attention" for what in ("operations", "memory"))
    write(
        "5/growth",
        f"growth with T of one mixer, B=1, width {WIDTH}, {THREADS} threads; exponents of the last {LAST} lengths",
        seeds=[0],
        figure=figure,
        bar=f"operations and memory of recurrences at most T^{MOST}, attention's operations at least T^{LEAST}",
        met=most <= MOST and least >= LEAST,
        measured=before,
        lengths=LENGTHS,
        lengths_of_peaks=HELD,
        operations_continued_from=COUNTED[-1],
    )
    draw(figure)


if __name__ == "__main__":
    main()
