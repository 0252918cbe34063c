"""Can a pointer network sort, find convex hulls and plan round trips? (Vinyals et al. 2015, arXiv:1506.03134)

    python benchmarks/pointers.py [--problems sorting,hull,tour] [--steps N] [--jobs 2]

Writes results/6/sorting.json, results/6/hull.json and results/6/tour.json. A bidirectional LSTM reads 10 numbers or
points, an LSTM points at them one after the other; Adam, its rate rising over the first steps and then falling
linearly to 0, gradients clipped at 1, every batch drawn anew. Each problem is learned with each of its settings; the
one that does best on the validation set is the one that is tested, once, on problems that no run has seen, and always
by the likeliest place at each step. Two runs at a time, one thread each. With --steps, a trial: nothing is tested and
nothing is written.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import torch
from result import commit, write
from torch import Tensor, nn

from clew.data import geometry
from clew.data.pair_batch import PairBatch
from clew.data.vocabulary import END
from clew.decode import greedy
from clew.metrics import length_ratio, tour_length
from clew.models.pointer import PointerNet
from clew.models.pointer_build import pointer_net

N, CELL, WIDTH, BATCH, WARM_UP, CLIP = 10, "lstm", 128, 128, 200, 1.0
SEED, VALIDATION_SEED, TEST_SEED, VALIDATION_ROWS, CHECKS = 0, 1_000_001, 2_000_002, 2000, 20
Drawn = tuple[Tensor, Tensor, Tensor]  # x (B, N, I), orders (B, T) and their lengths (B,)
Scores = dict[str, float]


class Problem(NamedTuple):
    line: str
    bar: str
    met: Callable[[Scores], bool]
    draw: Callable[[int, torch.Generator], Drawn]
    score: Callable[[np.ndarray, list[list[int]], list[list[int]]], Scores]  # points, orders found, orders that are
    worth: Callable[[Scores], float]  # what validation looks at; more is better
    model: dict[str, Any]
    settings: list[dict[str, Any]]  # of `pointer_net`, and the rate
    steps: int
    tests: int


def of_all(drawn: tuple[Tensor, Tensor]) -> Drawn:
    return *drawn, torch.full((len(drawn[0]),), N)


def exact(orders: list[list[int]], known: list[list[int]]) -> float:
    return float(np.mean([a == b for a, b in zip(orders, known, strict=True)]))


def of_sorting(x: np.ndarray, orders: list[list[int]], known: list[list[int]]) -> Scores:
    return {"exact": exact(orders, known)}


def area(corners_N2: np.ndarray) -> tuple[float, bool]:
    """Of a polygon, and whether it is one: of no area, or with sides that cross, it is none."""
    after_N2 = np.roll(corners_N2, -1, 0)
    sides_N12, before = (after_N2 - corners_N2)[:, None], corners_N2[:, None]
    turns_NN = cross(sides_N12, corners_N2 - before) * cross(sides_N12, after_N2 - before)
    size = abs(float(cross(corners_N2, after_N2).sum())) / 2
    return size, size > 0 and not ((turns_NN < 0) & (turns_NN.T < 0)).any()


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def polygon(order: list[int]) -> list[int]:
    """The same for all orders of the same corners round the same polygon."""
    first = order.index(min(order)) if order else 0
    turned = order[first:] + order[:first]
    return turned[:1] + turned[:0:-1] if len(turned) > 2 and turned[1] > turned[-1] else turned


def of_hulls(x: np.ndarray, orders: list[list[int]], known: list[list[int]]) -> Scores:
    found = [area(points[order]) for points, order in zip(x, orders, strict=True)]
    whole = [area(points[order])[0] for points, order in zip(x, known, strict=True)]
    shares = [size / all_of_it for (size, simple), all_of_it in zip(found, whole, strict=True) if simple]
    return {
        "exact": exact(orders, known),
        "same_polygon": exact([polygon(order) for order in orders], [polygon(order) for order in known]),
        "area": float(np.mean(shares)) if shares else 0.0,
        "not_simple": 1 - len(shares) / len(orders),
    }


def of_tours(x: np.ndarray, orders: list[list[int]], known: list[list[int]]) -> Scores:
    found, best = np.array(orders), np.array(known)
    return {
        "length_ratio": float(length_ratio(x, found, best).mean()),
        "mean_length": float(tour_length(x, found).mean()),
        "mean_optimal": float(tour_length(x, best).mean()),
        "exact": exact(orders, known),
    }


PROBLEMS = {
    "sorting": Problem(
        f"sorting {N} numbers, uniform in [0, 1): the share of test sequences that are right in all places",
        "exact at least 0.95",
        lambda s: s["exact"] >= 0.95,
        lambda rows, generator: of_all(geometry.sorting(rows, N, generator)),
        of_sorting,
        lambda s: s["exact"],
        {"items": 1, "whole": True},
        [{"score": "scaled_dot", "rate": 3e-3}, {"score": "additive", "rate": 3e-3}],
        4000,
        10_000,
    ),
    "hull": Problem(
        f"convex hulls of {N} points, uniform in the unit square: the share of test sets whose corners are all right"
        " and in order, counter-clockwise from the one with the lowest number; same_polygon: also from another corner"
        " or clockwise; area: of the true hull's, the mean over simple polygons",
        "exact at least 0.70",
        lambda s: s["exact"] >= 0.70,
        lambda rows, generator: geometry.convex_hull(rows, N, generator),
        of_hulls,
        lambda s: s["exact"],
        {"items": 2},
        [{"score": "additive", "rate": 3e-3}, {"score": "additive", "glimpse": "additive", "rate": 3e-3}],
        12_000,
        10_000,
    ),
    "tour": Problem(
        f"round trips through {N} points, uniform in the unit square: how many times as long as the shortest, the mean",
        "length_ratio at most 1.08",
        lambda s: s["length_ratio"] <= 1.08,
        lambda rows, generator: of_all(geometry.travelling_salesman(rows, N, generator)),
        of_tours,
        lambda s: -s["length_ratio"],
        {"items": 2, "whole": True},
        [{"score": "scaled_dot", "rate": 3e-3}, {"score": "additive", "rate": 3e-3}],
        5000,
        2000,
    ),
}


def centred(x_BNI: Tensor) -> Tensor:
    """Of mean 0 and variance 1."""
    return (x_BNI - 0.5) * 12**0.5


def batch_of(x_BNI: Tensor, y_BT: Tensor, lengths: Tensor) -> PairBatch:
    T = int(lengths.max()) + 1
    place_BT = nn.functional.pad(y_BT + 1, (0, 1))[:, :T]
    target_BT = torch.where(torch.arange(T) < lengths[:, None], place_BT, END)
    x_BT1 = nn.functional.pad(target_BT, (1, 0), value=END)[:, :-1, None]
    return PairBatch(centred(x_BNI), torch.full((len(x_BNI),), N), x_BT1, target_BT, lengths + 1)


@torch.no_grad()
def pointed(model: PointerNet, x_BNI: Tensor) -> list[list[int]]:
    """The likeliest item after the likeliest, up to the end."""
    orders: list[list[int]] = []
    for x in x_BNI.split(500):
        items = model.encode(centred(x))
        begin = torch.full((len(x), 1), END)
        logp, state = model.step(begin, model.init_state(len(x), items), items)
        places = torch.stack(list(islice(greedy(model, logp, state, items), N + 1)), 1).tolist()
        orders += [[place - 1 for place in row[: row.index(END)]] for row in places]
    return orders


def measure(model: PointerNet, problem: Problem, rows: int, seed: int) -> Scores:
    x, y, lengths = problem.draw(rows, torch.Generator().manual_seed(seed))
    known = [order[:n] for order, n in zip(y.tolist(), lengths.tolist(), strict=True)]
    scores = problem.score(x.double().numpy(), pointed(model.eval(), x), known)
    model.train()
    return {name: round(value, 4) for name, value in scores.items()}


def made(name: str, setting: dict[str, Any]) -> PointerNet:
    form = {key: value for key, value in setting.items() if key != "rate"}
    return pointer_net(CELL, width=WIDTH, **PROBLEMS[name].model, **form)


def run(name: str, setting: dict[str, Any], seed: int, steps: int) -> dict[str, Any]:
    """One setting on one problem, from the seed to the validation, and the weights that it found."""
    torch.set_num_threads(1)
    begin, problem = time.perf_counter(), PROBLEMS[name]
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    model = made(name, setting)
    optimiser = torch.optim.Adam(model.parameters(), lr=setting["rate"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda s: min(1.0, (s + 1) / WARM_UP) * (1 - s / steps))
    for step in range(1, steps + 1):
        loss = model.loss(batch_of(*problem.draw(BATCH, draws)))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        schedule.step()
        if step % max(1, steps // CHECKS) == 0:
            valid = measure(model, problem, VALIDATION_ROWS, VALIDATION_SEED)
            print(name, setting, step, f"{time.perf_counter() - begin:.0f} s", valid, flush=True)
    valid, seconds = measure(model, problem, VALIDATION_ROWS, VALIDATION_SEED), round(time.perf_counter() - begin, 1)
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    return {"setting": setting, "valid": valid, "seconds": seconds, "weights": weights}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    code, trial = commit(), bool(asked.steps)
    with ProcessPoolExecutor(asked.jobs, get_context("spawn")) as pool:
        for name in asked.problems.split(","):
            problem, begin = PROBLEMS[name], time.perf_counter()
            steps = asked.steps or problem.steps
            jobs = [pool.submit(run, name, setting, SEED, steps) for setting in problem.settings]
            runs: list[dict[str, Any]] = [job.result() for job in jobs]
            best = max(runs, key=lambda row: problem.worth(row["valid"]))
            if trial:
                continue
            model = made(name, best["setting"])
            model.load_state_dict({key: torch.from_numpy(value) for key, value in best["weights"].items()})
            test = measure(model, problem, problem.tests, TEST_SEED)
            write(
                f"6/{name}",
                problem.line,
                seeds=[SEED],
                figure=test,
                bar=problem.bar,
                met=problem.met(test),
                measured=code,
                setting={**best["setting"], "cell": CELL, "width": WIDTH, "batch": BATCH, "steps": steps},
                parameters=sum(p.numel() for p in model.parameters()),
                tested=problem.tests,
                validation=[{key: row[key] for key in ("setting", "valid", "seconds")} for row in runs],
                seconds=round(time.perf_counter() - begin, 1),
            )


if __name__ == "__main__":
    main()
