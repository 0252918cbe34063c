"""Who can choose what to remember? Selective copying and induction heads, with the same budget for all recurrences.

    python benchmarks/recall.py [--tasks selective_copying,induction] [--cells mamba,lru,...]

Writes results/5/selective_copying.json and results/5/induction.json. Two blocks as the library's language models have
them (`cells.Residual`, root-mean-square norm, gated MLP of twice the width), width 64, an embedding below and a linear
readout above; Adam, its rate rising over the first steps and then falling linearly to 0, gradients clipped at 1, every
batch drawn anew. A run ends early when 99% of a validation set is right; what is reported is the accuracy on test
sequences that no run has seen. Each cell learns at each of a task's rates; the one that does best on the validation
set is the one that counts. Two runs at a time, one thread each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from result import commit, write
from torch import Tensor, nn

from clew.data.synthetic import UNSCORED, induction, selective_copying
from clew.models.build import body

WIDTH, LAYERS, MLP, VOCABULARY, LENGTH, TOKENS = 64, 2, 2.0, 16, 64, 8
BATCH, STEPS, WARM_UP, CLIP = 32, 2500, 100, 1.0
SEED, VALIDATION_SEED, TEST_SEED = 0, 1_000_001, 2_000_002
CHECK_EVERY, SOLVED, ROWS = 100, 0.99, 1000
SOLVES, CANNOT = 0.95, 0.80
CELLS = (
    *("mamba2", "retnet", "lru", "s5", "gla", "mlstm", "rglru"),
    *("attention", "rwkv7", "gated_deltanet", "mamba", "deltanet", "minlstm", "mingru"),
)
# Where a cell's paper advises it for long memories, or to have blocks of like size.
OPTIONS: dict[str, dict[str, Any]] = {"lru": {"radius": (0.9, 0.999)}, "mamba2": {"state": 64}}


class Claim(NamedTuple):
    by: str  # the paper
    up_to: int = LENGTH  # steps of the sequences that it solves


class Task(NamedTuple):
    line: str
    draw: Callable[[int, int, torch.Generator], tuple[Tensor, Tensor]]  # rows, length, generator
    lengths: tuple[int, ...]  # of test sequences; the first is that of training
    solves: dict[str, Claim]
    cannot: dict[str, Claim]
    rates: tuple[float, ...]


TASKS = {
    "selective_copying": Task(
        f"selective copying: {TOKENS} data of {VOCABULARY - 2} kinds at random places among {LENGTH} steps, then asked"
        f" for in order; test accuracy of a token (guessing: {1 / (VOCABULARY - 2):.3f})",
        lambda rows, length, generator: selective_copying(rows, length, TOKENS, VOCABULARY, generator),
        (LENGTH,),
        {
            "mamba": Claim("arXiv:2312.00752, table 1"),
            "mingru": Claim("arXiv:2410.01201, table 1"),
            "minlstm": Claim("arXiv:2410.01201, table 1"),
            "rglru": Claim("arXiv:2402.19427, section 6.2"),
            "attention": Claim("arXiv:2402.19427, section 6.2"),
            "deltanet": Claim("arXiv:2406.06484, on MAD"),
            "rwkv7": Claim("arXiv:2503.14456, on MAD"),
        },
        dict.fromkeys(("lru", "s5"), Claim("time-invariant: arXiv:2312.00752, table 1")),
        (0.004, 0.01),
    ),
    "induction": Task(
        f"induction heads: what followed a token when it came first, learned at {LENGTH} steps; test accuracy by length"
        f" (guessing: {1 / (VOCABULARY - 1):.3f})",
        lambda rows, length, generator: induction(rows, length, VOCABULARY, generator),
        (LENGTH, 2 * LENGTH, 4 * LENGTH),
        {
            "mamba": Claim("arXiv:2312.00752, table 2", 4 * LENGTH),
            "rglru": Claim("arXiv:2402.19427, section 6.2", 4 * LENGTH),
            "attention": Claim("arXiv:2312.00752, table 2"),
        },
        {},
        (0.002, 0.004),
    ),
}


class Model(nn.Module):
    def __init__(self, cell: str, steps: int) -> None:
        super().__init__()
        options = {"window": steps} if cell == "attention" else OPTIONS.get(cell, {})
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.body = body(cell, WIDTH, WIDTH, LAYERS, norm="rms", mlp=MLP, options=options)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, x_BT: Tensor, y_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (K, V) and targets (K,) of the K steps that are scored."""
        scored_BT = y_BT != UNSCORED
        return self.head(self.body(self.embed(x_BT))[0][scored_BT]), y_BT[scored_BT]


def accuracy(model: Model, task: Task, length: int, seed: int) -> float:
    with torch.no_grad():
        logits_KV, y_K = model(*task.draw(ROWS, length, torch.Generator().manual_seed(seed)))
        return float((logits_KV.argmax(-1) == y_K).float().mean())


def run(name: str, cell: str, rate: float, seed: int) -> dict[str, Any]:
    """One cell on one task, from the seed to the test."""
    torch.set_num_threads(1)
    begin, task = time.perf_counter(), TASKS[name]
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    model = Model(cell, task.lengths[-1] + TOKENS)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: min(1.0, (s + 1) / WARM_UP) * (1 - s / STEPS))
    steps, validation = 0, 0.0
    while steps < STEPS and validation < SOLVED:
        for _ in range(CHECK_EVERY):
            loss = F.cross_entropy(*model(*task.draw(BATCH, LENGTH, draws)))
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            schedule.step()
        steps += CHECK_EVERY
        validation = accuracy(model, task, LENGTH, VALIDATION_SEED)
    test = {length: round(accuracy(model, task, length, TEST_SEED), 4) for length in task.lengths}
    parameters, seconds = sum(p.numel() for p in model.parameters()), round(time.perf_counter() - begin, 1)
    row = {"test": test, "validation": round(validation, 4), "rate": rate, "steps": steps}
    print(name, cell, row, f"{seconds} s", flush=True)
    return {**row, "parameters": parameters, "seconds": seconds}


def holds(task: Task, figure: dict[str, dict[str, Any]]) -> bool:
    """Whether all that the papers say is so."""

    def tests(cell: str, claim: Claim) -> list[float]:
        return [right for length, right in figure[cell]["test"].items() if length <= claim.up_to]

    return all(min(tests(*each)) >= SOLVES for each in task.solves.items()) and all(
        max(tests(*each)) < CANNOT for each in task.cannot.items()
    )


def bar(task: Task) -> str:
    def said(claims: dict[str, Claim]) -> str:
        return ", ".join(f"{cell} to {claim.up_to} steps ({claim.by})" for cell, claim in claims.items())

    cannot = f"; under {CANNOT}: {said(task.cannot)}" if task.cannot else ""
    return f"at least {SOLVES}: {said(task.solves)}{cannot}; the others are reported"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--cells", default=",".join(CELLS))
    asked = parser.parse_args()
    cells, code = asked.cells.split(","), commit()
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        for name in asked.tasks.split(","):
            task, begin = TASKS[name], time.perf_counter()
            jobs = {cell: [pool.submit(run, name, cell, rate, SEED) for rate in task.rates] for cell in cells}
            figure = {
                cell: max((job.result() for job in runs), key=lambda row: row["validation"])
                for cell, runs in jobs.items()
            }
            if set(cells) != set(CELLS):
                continue
            write(
                f"5/{name}",
                task.line,
                seeds=[SEED],
                figure=figure,
                bar=bar(task),
                met=holds(task, figure),
                measured=code,
                seconds=round(time.perf_counter() - begin, 1),
            )


if __name__ == "__main__":
    main()
