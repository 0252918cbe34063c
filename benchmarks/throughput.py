"""`clew train` beside a bare loop over the same model and the same batches: what data, logs and checkpoints cost.

python benchmarks/throughput.py

Taken in turns, each from the same weights; the bare loop has its batches ready. A ratio is counted only if both end
with the same weights.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from result import commit, write
from torch import nn

from clew import config
from clew.data.sources import read_table
from clew.tasks.train import TASKS
from clew.training import Settings, fit, make_optimizer, rate

TURNS, WARM_UP = 5, 10
CASES = {
    "generate, proverbs": ("generate", "sample:proverbs", {"train": {"steps": 60}}, 2),
    "classify, digits": ("classify", "sample:digits", {"data": {"target": "digit", "channels": 8}}, 1),
    "forecast, co2": ("forecast", "sample:co2", {}, 1),
}


def bare(model: nn.Module, batches: list, settings: Settings) -> float:
    """Seconds for all steps of the loop that anybody would write."""
    optimizer, carried = make_optimizer(model, settings.lr, settings.weight_decay), None
    warmup = -int(-settings.warmup * settings.steps // 1)
    began = time.perf_counter()
    for step, (batch, carries) in enumerate(batches):
        optimizer.zero_grad(set_to_none=True)
        if carries:
            loss, carried = model.carry(batch, carried)
        else:
            loss = model.loss(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, settings.steps, warmup, settings.lr)
        optimizer.step()
    return time.perf_counter() - began


def ratio(task: str, source: str, said: dict, threads: int, steps: int = 200) -> tuple[float, list[float], float]:
    torch.set_num_threads(threads)
    said = {**said, "train": {**said.get("train", {}), "steps": steps}}
    recipe = config.build({"task": task, **said}, defaults=TASKS[task].DEFAULTS)
    torch.manual_seed(0)
    job = TASKS[task].prepare(recipe, [read_table(source)], None)
    t = job.recipe.train
    settings = Settings(steps, t.lr, t.warmup, t.clip, t.weight_decay, validate_every=steps // 2, checkpoint_every=50)
    epochs = itertools.chain.from_iterable(job.batches.epoch(0, e) for e in itertools.count())
    carries = getattr(job.batches, "carries", False)
    ready = [(batch, carries) for batch in itertools.islice(epochs, steps)]
    ratios, gap = [], 0.0
    bare(copy.deepcopy(job.trained.model).train(), ready[:WARM_UP], settings)
    for _ in range(TURNS):
        theirs, ours = (copy.deepcopy(job.trained.model).train() for _ in range(2))
        torch.manual_seed(0)
        plain = bare(theirs, ready, settings)
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            fit(ours, job.batches, settings, folder=Path(folder) / "run", progress=False)
            whole = time.perf_counter() - began
        ratios.append(plain / whole)
        pairs = zip(theirs.parameters(), ours.parameters(), strict=True)
        gap = max(gap, *(float((a - b).abs().max()) for a, b in pairs))
    return statistics.median(ratios), ratios, gap


def main() -> None:
    measured, figure, met = commit(), {}, True
    for name, case in CASES.items():
        middle, ratios, gap = ratio(*case)
        if gap > 1e-6:
            sys.exit(f"{name}: the two loops end with weights that differ by {gap:.1e}: no figure")
        figure[name] = {"ratio": round(middle, 3), "turns": [round(r, 3) for r in ratios], "threads": case[3]}
        met = met and middle >= 0.9
        print(f"{name:20} {middle:.3f} of the bare loop's steps per second", [f"{r:.3f}" for r in ratios])
    write(
        "3/throughput",
        "steps per second of clew train beside a bare loop over the same model and batches",
        seeds=[0],
        figure=figure,
        bar="at least 0.9 (median of turns), with data, logs and a checkpoint every 50 steps",
        met=met,
        measured=measured,
    )


if __name__ == "__main__":
    main()
