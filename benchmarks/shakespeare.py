"""Tiny Shakespeare, letter by letter: recurrences of equal parameters, each trained for equal time.

python benchmarks/shakespeare.py [--data FOLDER] [--cells lstm,mamba,...] [--minutes M] [--search S]

Data are those of recipes/shakespeare.toml: the last tenth is the test part, a hundredth before it validation. The LSTM
is the recipe's, made narrower; every other cell is the mixer of pre-norm blocks with an MLP, of the width that comes
nearest to the LSTM's parameters. Optimiser, batch, window, clip and seed are the same for all, and so is the schedule,
a function of the time that has passed: that of training alone, on 2 threads, one cell after the other. Each learning
rate is first tried for S seconds and the best by validation is taken; the test part is looked at once, with the last
weights. Nothing is dropped out: the time is enough for a few epochs at most. Writes results/5/shakespeare.json.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from result import ROOT, commit, write
from torch import nn

from clew import config
from clew.data.sources import read_table
from clew.data.table import Table
from clew.data.vocabulary import Vocabulary
from clew.models import body_of, embedding
from clew.tasks import generate
from clew.tasks.base import Job
from clew.training import make_optimizer
from clew.training.feed import endless
from clew.training.optim import rate

CELLS = ["lstm", "mingru", "mamba", "gated_deltanet", "rwkv7", "mlstm"]
STACKED = {"layers": 2, "residual": True}  # the LSTM: a norm and an MLP in each layer are customary for the others
BLOCKS = {"layers": 2, "norm": "rms", "mlp": 2.0}
PARAMETERS, WITHIN = 1_000_000, 0.05
WIDTHS = range(64, 513, 8)
RATES = [2e-3, 4e-3, 8e-3]
WARMUP = 0.05  # of the time
SEED, THREADS = 0, 2
LEAST = 4  # modern recurrences beside the LSTM


def recipe_of(cell: str, width: int) -> config.Recipe:
    raw = config.load_recipe(ROOT / "recipes" / "shakespeare.toml")
    form = STACKED if cell == "lstm" else BLOCKS
    raw["model"] = {"cell": cell, "width": width, "embedding": raw["model"]["embedding"], **form}
    return config.build(raw, defaults=generate.DEFAULTS)


def prepared(recipe: config.Recipe, tables: list[Table]) -> Job:
    torch.manual_seed(SEED)
    return generate.prepare(recipe, tables, None)


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def width_for(cell: str, parameters: int, vocabulary: Vocabulary) -> int:
    """The width whose model comes nearest to so many parameters."""

    def distance(width: int) -> int:
        model = recipe_of(cell, width).model
        front = embedding(vocabulary, model.embedding, 0, 0.0)
        readout = vocabulary.size * (width + 1)
        return abs(size(body_of(model, front.input_size, front=front)) + readout - parameters)

    return min(WIDTHS, key=distance)


def train(job: Job, lr: float, seconds: float) -> dict[str, float]:
    """Train for so long; the model holds the last weights. A gradient that is not finite ends it with infinite nats."""
    model, t, state = job.trained.model.train(), job.recipe.train, None
    optimizer, learning = make_optimizer(model, lr, t.weight_decay), list(model.parameters())
    torch.manual_seed(SEED)
    steps, characters, finite, began = 0, 0, True, time.perf_counter()
    for batch in endless(job.batches, SEED, 0):
        through = (time.perf_counter() - began) / seconds
        if through >= 1 or not finite:
            break
        for group in optimizer.param_groups:  # a thousandth of the time is a step of the schedule
            group["lr"] = rate(int(1000 * through), 1000, round(1000 * WARMUP), lr)
        optimizer.zero_grad(set_to_none=True)
        loss, state = model.carry(batch, state)
        loss.backward()
        finite = math.isfinite(nn.utils.clip_grad_norm_(learning, t.clip))
        optimizer.step()
        steps, characters = steps + 1, characters + batch.target.numel()
    took = round(time.perf_counter() - began, 2)
    nats = job.validate()["nats"] if finite else math.inf
    return {"nats": nats, "steps": steps, "characters": characters, "seconds": took}


def measure(cell: str, width: int, tables: list[Table], seconds: float, search: float) -> dict[str, Any]:
    """A cell's row of the table: the rate found, one run at it, and its score."""
    recipe = recipe_of(cell, width)
    tried = {lr: train(prepared(recipe, tables), lr, search)["nats"] for lr in RATES}
    lr = min(tried, key=lambda each: tried[each])
    print(cell, {lr: round(nats, 4) for lr, nats in tried.items()}, flush=True)
    job = prepared(recipe, tables)
    run = train(job, lr, seconds)
    test, baseline, n = job.test()
    row = {
        "nats": round(test["nats"], 4),
        "valid": round(run["nats"], 4),
        "parameters": size(job.trained.model),
        "width": width,
        "layers": recipe.model.layers,
        "lr": lr,
        "tried": {str(each): round(nats, 4) if math.isfinite(nats) else "diverged" for each, nats in tried.items()},
        "steps": run["steps"],
        "steps_per_second": round(run["steps"] / run["seconds"], 2),
        "characters": run["characters"],
        "seconds": run["seconds"],
        "unigram": round(baseline["unigram"]["nats"], 4),
        "n": n,
    }
    print(cell, row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--cells", default=",".join(CELLS), help="lstm is the measure of the others' size")
    parser.add_argument("--minutes", type=float, default=4.0, help="of training, each")
    parser.add_argument("--search", type=float, default=25.0, help="seconds at each learning rate")
    asked, before = parser.parse_args(), commit()
    source = asked.data / "lm-tinyshakespeare" / "input.txt"
    if not source.exists():
        return print(f"skipped: there is no {source}; give --data, the folder of the data sets")
    torch.set_num_threads(THREADS)
    tables = [read_table(str(source))]
    job = prepared(recipe_of("lstm", WIDTHS[0]), tables)
    assert isinstance(job.trained, generate.Writer)
    vocabulary, names = job.trained.vocabulary, asked.cells.split(",")
    width = width_for("lstm", PARAMETERS, vocabulary)
    target = size(prepared(recipe_of("lstm", width), tables).trained.model)
    widths = {name: width_for(name, target, vocabulary) for name in names}
    figure = {name: measure(name, widths[name], tables, 60 * asked.minutes, asked.search) for name in names}
    print(
        *(f"{row['nats']:.4f}  {name}" for name, row in sorted(figure.items(), key=lambda item: item[1]["nats"])),
        sep="\n",
    )
    whole = all(
        math.isfinite(row["valid"]) and row["nats"] < row["unigram"] and abs(row["parameters"] / target - 1) <= WITHIN
        for row in figure.values()
    )
    write(
        "5/shakespeare",
        f"Tiny Shakespeare, last tenth: nats a character after {asked.minutes:g} minutes on {THREADS} threads",
        seeds=[SEED],
        figure=figure,
        bar=f"a whole table: the LSTM and at least {LEAST} modern recurrences, their parameters within {WITHIN:.0%} of"
        " its, each under the unigrams' nats",
        met=whole and "lstm" in names and len(names) > LEAST,
        measured=before,
        minutes=asked.minutes,
        search_seconds=asked.search,
    )


if __name__ == "__main__":
    main()
