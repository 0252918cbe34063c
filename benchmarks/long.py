"""A sequence of 65,536 steps: trained in one window, its memory grows with T; in windows of 1,024, it does not.

python benchmarks/long.py [--cells mamba,...]

B = 1, width 64, 1 thread. A pass is forward and backward with the gradients of all weights; the loss is the mean
square of all outputs. In one window the gradient reaches back over all steps. In windows the state is carried on,
detached (truncated backpropagation through time), and gradients add up; the loss is the same. Each point is measured in
processes of its own, where steps are drawn as they are read. Writes results/5/long.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any

import torch
from growth import fresh, peak
from result import commit, write
from torch import Tensor

from clew import tree
from clew.cells import RECURRENCES, Recurrence

WIDTH, WINDOW = 64, 1024
THREADS = 1  # as `clew train` takes for layers that narrow
LENGTHS = [16384, 32768, 65536]
CELLS = ["mingru", "lru", "mamba", "gla", "rwkv7"]
LINEAR, CONSTANT = 2.2, 1.1  # the most that memory may grow where T doubles, in one window and in windows
TIMES = {"one window": 1, "windows": 3}  # processes for each point: the less it holds, the more the rest shows
SAME = 1e-5  # relative difference of the losses: sums of 4 million numbers, in single precision


def steps(T: int) -> Iterator[Tensor]:
    """Inputs (1, WINDOW, WIDTH), the same ones for any way of reading them."""
    random = torch.Generator().manual_seed(1)
    for _ in range(T // WINDOW):
        yield torch.randn(1, WINDOW, WIDTH, generator=random)


def train(cell: Recurrence, T: int, whole: bool) -> float:
    """The loss of a training pass; gradients are left in the weights."""
    state, loss = None, 0.0
    for x_BTI in [torch.cat(list(steps(T)), 1)] if whole else steps(T):
        y_BTH, state = cell(x_BTI, state)
        part = y_BTH.square().sum() / (T * WIDTH)
        part.backward()
        loss, state = loss + float(part.detach()), tree.detach(state)
    return loss


def point(name: str, T: int, whole: bool) -> dict[str, float]:
    torch.manual_seed(0)
    cell, found = RECURRENCES[name](WIDTH, WIDTH), {}

    def run() -> None:
        began = time.perf_counter()
        found["loss"] = train(cell, T, whole)
        found["seconds"] = round(time.perf_counter() - began, 2)

    found["peak_MiB"] = peak(run, lambda: train(cell, 2 * WINDOW, whole=False))
    return found


def middle(points: list[dict[str, float]]) -> dict[str, float]:
    """The one whose peak is the median."""
    return sorted(points, key=lambda point: point["peak_MiB"])[len(points) // 2]


def measure(name: str) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for how, times in TIMES.items():
        points = [middle([fresh(__file__, name, T, how) for _ in range(times)]) for T in LENGTHS]
        row[how] = {key: [point[key] for point in points] for key in ("peak_MiB", "seconds", "loss")}
        row[how]["ratio"] = round(points[-1]["peak_MiB"] / points[-2]["peak_MiB"], 3)
    losses = zip(row["one window"]["loss"], row["windows"]["loss"], strict=True)
    row["difference"] = max(abs(a / b - 1) for a, b in losses)
    print(name, row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", default=",".join(CELLS), help="nothing is written unless it is all of them")
    parser.add_argument("--point", nargs=3, help=argparse.SUPPRESS)
    asked, before = parser.parse_args(), commit()
    torch.set_num_threads(THREADS)
    if asked.point:
        name, T, how = asked.point
        return print(json.dumps(point(name, int(T), how == "one window")))
    names = asked.cells.split(",")
    figure = {name: measure(name) for name in names}
    met = all(
        row["one window"]["ratio"] <= LINEAR and row["windows"]["ratio"] <= CONSTANT and row["difference"] <= SAME
        for row in figure.values()
    )
    if set(names) == set(CELLS):
        write(
            "5/long",
            f"training passes over {LENGTHS} steps, B=1, width {WIDTH}, in one window and in windows of {WINDOW}",
            seeds=[0],
            figure=figure,
            bar=f"memory from {LENGTHS[-2]} to {LENGTHS[-1]} steps at most {LINEAR}x in one window and {CONSTANT}x in"
            f" windows; the same loss to {SAME}",
            met=met,
            measured=before,
            lengths=LENGTHS,
        )


if __name__ == "__main__":
    main()
