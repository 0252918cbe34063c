"""Who remembers over 100 steps? LSTM, GRU and tanh Elman on the adding problem, with the same budget for all.

    python benchmarks/adding.py [--steps N]

Width 64, a linear readout of the last output, Adam with its rate falling linearly to 0, batch 32, gradients clipped at
1, one thread. For each cell the learning rate with the best validation error (one tuning seed, the whole budget) is
then run with three other seeds; what is reported is the error on test sequences that no run has seen. The state is
never told how long the sequence is.
"""

from __future__ import annotations

import argparse
import time

import torch
from result import commit, write
from torch import nn

from clew import cells
from clew.data.synthetic import adding

LENGTH, WIDTH, BATCH, CLIP = 100, 64, 32, 1.0
RATES = (1e-3, 3e-3, 1e-2)
SEEDS = (1, 2, 3)
TUNING_SEED, VALIDATION_SEED, TEST_SEED = 0, 1_000_001, 2_000_002
CELLS = {"lstm": cells.LSTM, "gru": cells.GRU, "elman": cells.Elman}
BAR = "LSTM and GRU < 0.01, tanh Elman above 0.05"


def held_out(seed: int, rows: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    return adding(rows, LENGTH, torch.Generator().manual_seed(seed))


def error(body: nn.Module, head: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Mean squared error."""
    with torch.no_grad():
        return float((head(body(data[0])[0][:, -1]) - data[1]).square().mean())


def train(name: str, seed: int, rate: float, steps: int) -> tuple[nn.Module, nn.Module]:
    """One run: `steps` batches, each drawn anew."""
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    body = CELLS[name](2, WIDTH)
    head = nn.Linear(WIDTH, 1)
    parameters = [*body.parameters(), *head.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    for _ in range(steps):
        x_BTI, y_B1 = adding(BATCH, LENGTH, draws)
        loss = (head(body(x_BTI)[0][:, -1]) - y_B1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimiser.step()
        schedule.step()
    return body, head


def measure(name: str, steps: int) -> dict:
    """Tune the learning rate, then the test error of each seed."""
    tuned = {rate: error(*train(name, TUNING_SEED, rate, steps), held_out(VALIDATION_SEED)) for rate in RATES}
    rate = min(tuned, key=lambda r: tuned[r])
    print(f"{name}: validation {tuned}", flush=True)
    test = [error(*train(name, seed, rate, steps), held_out(TEST_SEED)) for seed in SEEDS]
    print(f"{name}: lr {rate}, test {test}", flush=True)
    return {"test_mse": test, "lr": rate, "validation_mse": {str(r): e for r, e in tuned.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin, code = time.perf_counter(), commit()
    figure = {name: measure(name, options.steps) for name in CELLS}
    gated = [e for name in ("lstm", "gru") for e in figure[name]["test_mse"]]
    write(
        "2/adding",
        f"adding problem, {LENGTH} steps: test mean squared error after {options.steps} batches of {BATCH}"
        " (always saying 1: 0.167)",
        seeds=list(SEEDS),
        figure=figure,
        bar=BAR,
        met=max(gated) < 0.01 and min(figure["elman"]["test_mse"]) > 0.05,
        measured=code,
        seconds=round(time.perf_counter() - begin, 1),
    )


if __name__ == "__main__":
    main()
