"""Training passes of one modern recurrence on the CPU, beside public implementations of it, and a table of all.

python benchmarks/mixers.py [--cells mamba,gla,...] [--seconds S]

Writes results/5/mixers.json. B = 8, T = 256, width 256, 2 threads; a pass is forward and backward with the gradients of
the input and of all weights, which are compared first.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import peers
import torch
from race import Numbers, check, ratio, spread, turns
from result import commit, write
from torch import Tensor

from clew import tree
from clew.cells import RECURRENCES

B, T, WIDTH = 8, 256, 256
TOLERANCE = 2e-3  # of the largest number, in single precision: peers order their sums in other ways
BARS = {  # times as fast as the peer
    "mamba": {"mambapy": 10.0, "transformers": 100.0},
    "mamba2": {"transformers": 3.0, "transformers, chunks of 64": 3.0},
    "mingru": {"minGRU-pytorch": 2.0},
    "mlstm": {"transformers": 2.0},
    **{
        name: {"flash-linear-attention's loop": 5.0}
        for name in ("gla", "retnet", "rwkv7", "deltanet", "gated_deltanet")
    },
}
LEAST = 10_000  # tokens a second, of those above


def training(run: Callable[[Tensor], Tensor], x: Tensor, parameters: list[Tensor]) -> Callable[[], list[Tensor]]:
    along = torch.randn(B, T, WIDTH, generator=torch.Generator().manual_seed(1))

    def train() -> list[Tensor]:
        y = run(x)
        return [y.detach(), *torch.autograd.grad(y, [x, *parameters], along)]

    return train


def numbers(run: Callable[[], list[Tensor]], shapes: list[torch.Size]) -> Callable[[], Numbers]:
    return lambda: [np.asarray(t.reshape(shape)) for t, shape in zip(run(), shapes, strict=True)]


def raced(name: str, seconds: float) -> dict[str, Any]:
    """Our cell beside each of its peers."""
    torch.manual_seed(0)
    x = torch.randn(B, T, WIDTH, requires_grad=True)
    found = {}
    for peer, (run, parameters, ours) in peers.of(name, WIDTH).items():
        mine = [ours.get_parameter(each) for each in parameters]
        runners = {
            "clew": training(lambda x, ours=ours: ours(x)[0], x, mine),
            peer: training(run, x, list(parameters.values())),
        }
        shapes = [t.shape for t in (x, x, *mine)]
        difference = check({each: numbers(r, shapes) for each, r in runners.items()}, TOLERANCE)[peer]
        times = turns(runners, seconds, least=3 if name != "mamba" or peer != "transformers" else 1)
        found[peer] = {
            "ratio": round(ratio(times, "clew", peer), 2),
            "quarters": spread(times, "clew", peer),
            "tokens_a_second": {each: round(B * T / statistics.median(t)) for each, t in times.items()},
            "parameters": [sum(p.numel() for p in ours.parameters()), sum(p.numel() for p in parameters.values())],
            "difference": difference,
        }
        print(name, peer, found[peer], flush=True)
    return found


def measured(name: str, seconds: float) -> dict[str, Any]:
    """Tokens a second of a cell with its defaults, forward and in training; its size and its state's."""
    torch.manual_seed(0)
    cell, x = RECURRENCES[name](WIDTH, WIDTH), torch.randn(B, T, WIDTH, requires_grad=True)

    def forward() -> Tensor:
        with torch.no_grad():
            return cell(x)[0]

    used = [p for p in cell.parameters() if p.requires_grad]
    times = turns({"forward": forward, "training": training(lambda x: cell(x)[0], x, used)}, seconds)
    state = sum(leaf.numel() * leaf.element_size() for leaf in tree.leaves(cell.init_state(1)))
    speed = {each: round(B * T / statistics.median(t)) for each, t in times.items()}
    row = {**speed, "state_bytes": state, "parameters": sum(p.numel() for p in cell.parameters())}
    print(name, row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", default=",".join(RECURRENCES))
    parser.add_argument("--seconds", type=float, default=4.0, help="of each race")
    asked = parser.parse_args()
    names, before = asked.cells.split(","), commit()
    torch.set_num_threads(2)
    table = {name: measured(name, asked.seconds) for name in names}
    races = {name: raced(name, asked.seconds) for name in names if name in peers.PEERS}
    met = all(races[name][peer]["ratio"] >= bar for name in races for peer, bar in BARS[name].items())
    met = met and all(table[name]["training"] >= LEAST for name in races)
    if set(names) == set(RECURRENCES):
        write(
            "5/mixers",
            f"training speed of one mixer, B={B}, T={T}, width {WIDTH}, 2 threads",
            seeds=[0],
            figure={"races": races, "table": table},
            bar=f"{BARS}; each of them at least {LEAST} tokens a second",
            met=met,
            measured=before,
        )


if __name__ == "__main__":
    main()
