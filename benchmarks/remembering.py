"""Is what a diagnosis says of a model's memory right, and does it help to do what it says?

python benchmarks/remembering.py [--data FOLDER] NAME...       names: known, ranking, followed, watch; "all" for all

known      models made to remember so far and no farther: delay lines, pinned forget gates, a learned copy task
ranking    the same data, several recurrences: the ones that copy best are found to remember longest
followed   real runs before and after following the first finding that names a change, by their validation parts
watch      what watching gradients costs while training

Each writes results/8/NAME.json.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from result import ROOT, commit, write
from torch import Tensor, nn

import clew
from clew.cells import RECURRENCES, Recurrence
from clew.data.synthetic import UNSCORED, selective_copying
from clew.diagnose import flow
from clew.report.run import report

sys.path.insert(0, str(ROOT / "tests" / "diagnose"))
from known import Delay, pinned

WITHIN = 0.1
KINDS, NOISE = 8, 100  # symbols of the copy tasks, and steps of noise


def measured(body: Recurrence, predict: Any, x_BTI: Tensor) -> dict[str, float]:
    """Both horizons of a body."""
    T = x_BTI.shape[1]
    (curve,) = flow.of_inputs(body, x_BTI).values()
    lags = flow.lags_up_to(T - 1)
    felt = flow.felt(body, predict, x_BTI, lags)
    return {"gradient": flow.horizon(range(T), curve), "felt": flow.horizon(lags, felt, flow.FELT)}


def copying(B: int, T: int, delay: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Symbols, and at each step that of `delay` steps before."""
    x_BT = torch.randint(KINDS, (B, T), generator=draws)
    y_BT = torch.full_like(x_BT, UNSCORED)
    y_BT[:, delay:] = x_BT[:, : T - delay]
    return F.one_hot(x_BT, KINDS).float(), y_BT


class Copier(nn.Module):
    def __init__(self, cell: str, width: int, **options: Any) -> None:
        super().__init__()
        self.body = RECURRENCES[cell](KINDS, width, **options)
        self.readout = nn.Linear(self.body.output_size, KINDS)

    def forward(self, x_BTK: Tensor) -> Tensor:
        return self.readout(self.body(x_BTK)[0])


def learn(model: nn.Module, loss: Callable[[], Tensor], steps: int, lr: float = 5e-3) -> None:
    """By Adam, with a rate that rises for a tenth of the steps and then falls."""
    optimiser = torch.optim.Adam(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, steps, pct_start=0.1)
    for _ in range(steps):
        optimiser.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()


def taught(cell: str, delay: int, steps: int) -> tuple[Copier, float]:
    """A model that has learned to copy, and the share that it copies rightly."""
    torch.manual_seed(0)
    draws, T = torch.Generator().manual_seed(0), 3 * delay + 10
    model = Copier(cell, 64)

    def loss() -> Tensor:
        x, y = copying(32, T, delay, draws)
        return F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=UNSCORED)

    learn(model, loss, steps)
    x, y = copying(200, T, delay, torch.Generator().manual_seed(99))
    with torch.no_grad():
        right = (model.eval()(x).argmax(-1) == y)[y != UNSCORED].float().mean()
    return model, float(right)


def felt_of(model: Copier, delay: int) -> float:
    """The horizon by changed symbols, of the probabilities."""
    x = copying(64, 4 * delay + 20, delay, torch.Generator().manual_seed(7))[0]
    found = measured(model.body, lambda y: model.readout(y).softmax(-1), x)
    return found["felt"]


def known() -> None:
    at, rows = commit(), []
    draws = torch.Generator().manual_seed(0)
    for delay in (5, 20, 60, 120):
        found = measured(Delay(4, delay), lambda y: y, torch.randn(16, 2 * delay + 10, 4, generator=draws))
        rows += [{"model": f"delay line of {delay}", "by": by, "known": delay, "found": k} for by, k in found.items()]
    for keep in (0.8, 0.9, 0.95, 0.98):
        far = {"gradient": -math.log(flow.SHARE) / -math.log(keep), "felt": -math.log(flow.FELT) / -math.log(keep)}
        found = measured(pinned(keep), lambda y: y, torch.randn(32, int(1.5 * far["gradient"]), 2, generator=draws))
        rows += [{"model": f"forget gate at {keep}", "by": by, "known": far[by], "found": k} for by, k in found.items()]
    for delay, steps in ((5, 1000), (10, 1500), (20, 2500)):
        model, right = taught("elman", delay, steps)
        row = {"model": f"elman that has learned to copy {delay} steps back", "by": "felt", "known": delay}
        rows.append({**row, "found": felt_of(model, delay), "copied": right})
    worst = max(abs(row["found"] / row["known"] - 1) for row in rows)
    write(
        "8/known",
        "the measured memory horizon of models whose memory is known",
        seeds=[0],
        figure={"worst": worst, "rows": rows},
        bar=f"within {WITHIN:.0%}",
        met=worst <= WITHIN,
        measured=at,
    )


def kept(cell: str, seed: int) -> tuple[float, float]:
    """The share of symbols that a model gives back after noise, and the horizon of their mean effect over nine lags."""
    torch.manual_seed(seed)
    draws, steps, symbols = torch.Generator().manual_seed(seed), 1000, KINDS + 2
    model = nn.ModuleDict({"body": RECURRENCES[cell](symbols, 32), "readout": nn.Linear(32, symbols)})
    body, readout = model["body"], model["readout"]

    def drawn(B: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x_BT, y_BT = selective_copying(B, NOISE, 1, symbols, generator)
        return F.one_hot(x_BT, symbols).float(), y_BT[:, -1]

    def loss() -> Tensor:
        x, y = drawn(32, draws)
        return F.cross_entropy(readout(body(x)[0][:, -1]), y)

    learn(model, loss, steps)
    x, y = drawn(2000, torch.Generator().manual_seed(99))
    with torch.no_grad():
        right = float((readout(body(x)[0][:, -1]).argmax(-1) == y).float().mean())
    lags = list(range(NOISE + 1))
    x = drawn(256, torch.Generator().manual_seed(7))[0]
    felt = torch.tensor(flow.felt(body, lambda y: readout(y).softmax(-1), x, lags))[1:]  # 0 is the question
    smooth = F.avg_pool1d(felt[None, None], 9, 1, 4, count_include_pad=False)[0, 0]
    return right, flow.horizon(lags[1:], smooth.tolist(), flow.FELT)


def ranking() -> None:
    at, rows = commit(), []
    for cell in ("elman", "lstm", "gru", "mamba"):
        found = [kept(cell, seed) for seed in range(3)]
        horizons = [horizon if math.isfinite(horizon) else None for _, horizon in found]
        rows.append({"cell": cell, "kept": [right for right, _ in found], "horizon": horizons})
        print(rows[-1], flush=True)
    by_share = sorted(rows, key=lambda row: statistics.median(row["kept"]))
    middle = [statistics.median(math.inf if h is None else h for h in row["horizon"]) for row in by_share]
    write(
        "8/ranking",
        f"recurrences by how often they give back one symbol among {NOISE} steps of noise, and by their horizon"
        f" (medians of three seeds; null is more than {NOISE})",
        seeds=[0, 1, 2],
        figure={"rows": by_share, "median_horizons": [h if math.isfinite(h) else None for h in middle]},
        bar="in the same order",
        met=all(a <= b for a, b in pairwise(middle)) and middle[0] < middle[-1],
        measured=at,
    )


FOLLOWED: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "text in short windows": (
        "lm-tinyshakespeare/input.txt",
        {"task": "generate", "width": 128, "steps": 1500, "window": 4, "batch": 64, "lr": 3e-3, "watch": True},
        ("nats",),
    ),
    "series through a plain recurrence": (
        "tsc-ucr-uea/GunPoint_TRAIN.ts.gz",
        {
            "task": "classify",
            "cell": "elman",
            "cell_options": {"recurrent_init": "uniform"},
            "width": 64,
            "pooling": "last",
            "epochs": 60,
            "batch": 8,
            "patience": 0,
        },
        ("nll", "accuracy"),
    ),
}


def followed(data: Path) -> None:
    at, rows = commit(), []
    for name, (source, settings, shown) in FOLLOWED.items():
        with tempfile.TemporaryDirectory() as work:
            before = clew.train(data / source, Path(work) / "before", progress=False, **settings)
            found = report(Path(work) / "before")
            remark = next((remark for remark in found.remarks if remark.changes), None)
            if remark is None:
                sys.exit(f"{name}: nothing to try among {[remark.text for remark in found.remarks]}")
            kept = {key: value for key, value in settings.items() if f".{key}=" not in " ".join(remark.changes)}
            after = clew.train(
                data / source, Path(work) / "after", progress=False, overrides=list(remark.changes), **kept
            )
        row = {"run": name, "said": remark.text, "try": list(remark.changes)}
        for when, run in (("before", before), ("after", after)):
            row[when] = {key: run["valid"][key] for key in (*shown, "loss")} | {"seconds": run["seconds"]}
        rows.append(row)
        print(row, flush=True)
    write(
        "8/followed",
        "real runs before and after the first change that their diagnosis names: what validation lowers",
        seeds=[0],
        figure=rows,
        bar="lower after, in both",
        met=all(row["after"]["loss"] < row["before"]["loss"] for row in rows),
        measured=at,
    )


def watch(data: Path) -> None:
    """In turns, in pairs whose first changes."""
    at, ratios = commit(), []
    source = data / "lm-tinyshakespeare/input.txt"
    settings = {"task": "generate", "width": 128, "steps": 600, "validate_every": 60, "progress": False}
    with tempfile.TemporaryDirectory() as work:
        for turn in range(6):
            seconds = {}
            for on in (turn % 2 == 0, turn % 2 == 1):
                started = time.perf_counter()
                clew.train(source, Path(work) / f"{turn}{on}", watch=on, **settings)
                seconds[on] = time.perf_counter() - started
            ratios.append(seconds[True] / seconds[False])
    middle = statistics.median(ratios)
    write(
        "8/watch",
        "training with gradients watched at each of ten validations, beside training without",
        seeds=[0],
        figure={"median": middle, "ratios": ratios},
        bar="under 1.05",
        met=middle < 1.05,
        measured=at,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    names = ("known", "ranking", "followed", "watch")
    parser.add_argument("names", nargs="+", choices=[*names, "all"])
    asked = parser.parse_args()
    for name in names if "all" in asked.names else asked.names:
        if name in ("followed", "watch"):
            if not asked.data.is_dir():
                sys.exit("needs --data, the folder of the data sets")
            {"followed": followed, "watch": watch}[name](asked.data)
        else:
            {"known": known, "ranking": ranking}[name]()


if __name__ == "__main__":
    main()
