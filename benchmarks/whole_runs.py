"""Whole training loops of two recipes beside an equal plain-torch loop, in turns: words and characters per second.

python benchmarks/whole_runs.py [--data FOLDER]

Ours is the recipe's own batches (bucketed by length, or lanes that carry their state), model and fused AdamW; theirs
what is usually written: packed sequences in random batches, torch's LSTM, AdamW as it comes. Both have the same weights
at the start and must give the same loss on the same batch, or nothing is timed. Writes results/4/whole_runs.json.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from race import ratio, spread
from result import ROOT, commit, write
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from clew import config
from clew.cells import Bidirectional, Residual
from clew.data.batch import Batch
from clew.data.sources import read_table
from clew.tasks.train import TASKS
from clew.training import make_optimizer
from recipes import LINES

TURNS, STEPS = 7, 12
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@torch.no_grad()
def fill(theirs: nn.LSTM, layer: int, ours: nn.Module, reverse: nn.Module | None = None) -> None:
    for cell, end in ((ours, ""), (reverse, "_reverse")):
        for name in NAMES if cell is not None else ():
            getattr(theirs, f"{name}_l{layer}{end}").copy_(getattr(cell, name))


class Tagger(nn.Module):
    """Words and their letters, two bidirectional layers, packed."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        front, *layers = model.body.layers
        words, letters, reader = front.module.words.vectors, front.module.letters, front.module.reader
        self.words = nn.Embedding.from_pretrained(words.weight.detach().clone(), freeze=False)
        self.letters = nn.Embedding.from_pretrained(letters.weight.detach().clone(), freeze=False)
        L, wide, H = reader.forwards.hidden_size, front.module.output_size, layers[0].forwards.hidden_size
        self.reader = nn.LSTM(L, L, batch_first=True, bidirectional=True)
        fill(self.reader, 0, reader.forwards, reader.backwards)
        p = model.body.dropout
        self.body = nn.LSTM(wide, H, len(layers), batch_first=True, bidirectional=True, dropout=p)
        for i, layer in enumerate(layer for layer in layers if isinstance(layer, Bidirectional)):
            fill(self.body, i, layer.forwards, layer.backwards)
        self.dropout = p
        self.readout = nn.Linear(2 * H, model.head.readout.out_features)
        self.readout.load_state_dict(model.head.readout.state_dict())
        self.smoothing = model.head.smoothing

    def loss(self, x: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
        spelt = x[..., 1:].flatten(0, 1)
        n = (spelt != 0).sum(1).clamp_min(1)
        packed = pack_padded_sequence(self.letters(spelt), n, batch_first=True, enforce_sorted=False)
        _, (ends, _) = self.reader(packed)
        h = torch.cat([self.words(x[..., 0]), torch.cat([ends[0], ends[1]], 1).unflatten(0, x.shape[:2])], -1)
        h = pack_padded_sequence(
            F.dropout(h, self.dropout, self.training), lengths, batch_first=True, enforce_sorted=False
        )
        y, _ = pad_packed_sequence(self.body(h)[0], batch_first=True)
        real = torch.arange(y.shape[1]) < lengths[:, None]
        logits = self.readout(F.dropout(y[real], self.dropout, self.training))
        return F.cross_entropy(logits, target[real], label_smoothing=self.smoothing)


class Writer(nn.Module):
    """A language model of two layers, the upper one residual."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        front, below, above = model.body.layers
        assert isinstance(above, Residual)
        self.units = nn.Embedding.from_pretrained(front.module.vectors.weight.detach().clone(), freeze=False)
        self.below = nn.LSTM(below.input_size, below.hidden_size, batch_first=True)
        self.above = nn.LSTM(above.layer.input_size, above.layer.hidden_size, batch_first=True)
        fill(self.below, 0, below)
        fill(self.above, 0, above.layer)
        self.dropout = model.body.dropout
        self.readout = nn.Linear(above.layer.hidden_size, model.head.readout.out_features)
        self.readout.load_state_dict(model.head.readout.state_dict())

    def loss(self, x: Tensor, target: Tensor, state: tuple | None) -> tuple[Tensor, tuple]:
        low, high = state or (None, None)
        h = F.dropout(self.units(x[..., 0]), self.dropout, self.training)
        h, low = self.below(h, low)
        h = F.dropout(h, self.dropout, self.training)
        y, high = self.above(h, high)
        logits = self.readout(F.dropout(h + y, self.dropout, self.training))
        state = tuple(tuple(leaf.detach() for leaf in part) for part in (low, high))
        return F.cross_entropy(logits.flatten(0, 1), target.flatten()), state


def prepared(name: str, data: Path):
    recipe = config.load_recipe(ROOT / "recipes" / f"{name}.toml")
    folder = (data / LINES[name].source).parent
    for part in ("valid", "test"):
        if isinstance(recipe["data"].get(part), str):
            recipe["data"][part] = str(folder / recipe["data"][part])
    task = TASKS[recipe["task"]]
    torch.manual_seed(0)
    return task.prepare(
        config.build(recipe, defaults=task.DEFAULTS), [read_table(str(data / LINES[name].source))], None
    )


def forever(batches) -> Iterator[Batch]:
    return itertools.chain.from_iterable(batches.epoch(0, e) for e in itertools.count())


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def tagger(data: Path) -> tuple[Callable[[], int], Callable[[], int]]:
    job = prepared("ewt", data)
    ours, t = job.trained.model, job.recipe.train
    theirs = Tagger(ours)
    batch = next(forever(job.batches))
    lengths = batch.lengths if batch.lengths is not None else torch.full(batch.x.shape[:1], batch.x.shape[1])
    same(ours.eval().loss(batch), theirs.eval().loss(batch.x, batch.target, lengths))
    mine, random = make_optimizer(ours.train(), t.lr, t.weight_decay), np.random.default_rng(0)
    their_own, examples = torch.optim.AdamW(theirs.train().parameters(), t.lr), job.batches.examples
    feed = forever(job.batches)

    def ours_for() -> int:
        words = 0
        for batch in itertools.islice(feed, STEPS):
            step_of(ours, mine, ours.loss(batch))
            words += int(batch.lengths.sum()) if batch.lengths is not None else batch.x.shape[:2].numel()
        return words

    def theirs_for() -> int:
        words = 0
        for _ in range(STEPS):
            chosen = [examples[i] for i in random.integers(len(examples), size=t.batch)]
            x = pad_sequence([torch.from_numpy(np.asarray(e.x, np.int64)) for e in chosen], batch_first=True)
            y = pad_sequence([torch.from_numpy(np.asarray(e.target, np.int64)) for e in chosen], batch_first=True)
            lengths = torch.tensor([len(e.x) for e in chosen])
            step_of(theirs, their_own, theirs.loss(x, y, lengths))
            words += int(lengths.sum())
        return words

    return ours_for, theirs_for


def writer(data: Path) -> tuple[Callable[[], int], Callable[[], int]]:
    job = prepared("shakespeare", data)
    ours, t = job.trained.model, job.recipe.train
    theirs = Writer(ours)
    batch = next(forever(job.batches))
    same(ours.eval().carry(batch, None)[0], theirs.eval().loss(batch.x, batch.target, None)[0])
    mine, their_own = (
        make_optimizer(ours.train(), t.lr, t.weight_decay),
        torch.optim.AdamW(theirs.train().parameters(), t.lr),
    )
    feeds, states = [forever(job.batches), forever(job.batches)], [None, None]

    def ours_for() -> int:
        for batch in itertools.islice(feeds[0], STEPS):
            loss, states[0] = ours.carry(batch, states[0])
            step_of(ours, mine, loss)
        return STEPS * t.batch * t.window

    def theirs_for() -> int:
        for batch in itertools.islice(feeds[1], STEPS):
            loss, states[1] = theirs.loss(batch.x, batch.target, states[1])
            step_of(theirs, their_own, loss)
        return STEPS * t.batch * t.window

    return ours_for, theirs_for


def same(ours: Tensor, theirs: Tensor) -> None:
    a, b = float(ours.detach()), float(theirs.detach())
    if not abs(a - b) <= 1e-4:
        sys.exit(f"losses of the same weights differ by {abs(a - b):.1e} ({a:.5f}, {b:.5f}): no figure")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    data = parser.parse_args().data
    measured, figure, met = commit(), {}, True
    torch.set_num_threads(2)
    for name, what, build in (("ewt", "words", tagger), ("shakespeare", "characters", writer)):
        runners = dict(zip(("clew", "torch"), build(data), strict=True))
        times: dict[str, list[float]] = {runner: [] for runner in runners}  # seconds a unit
        for turn in range(TURNS + 1):
            for runner, run in runners.items():
                began = time.perf_counter()
                units = run()
                if turn:
                    times[runner].append((time.perf_counter() - began) / units)
        point = {
            f"{what}_per_second": {runner: round(1 / statistics.median(t)) for runner, t in times.items()},
            "ratio": round(ratio(times, "clew", "torch"), 3),
            "quarters": spread(times, "clew", "torch"),
        }
        figure[name], met = point, met and point["ratio"] >= 1.3
        print(name, point, flush=True)
    write(
        "4/whole_runs",
        "Whole training loops beside an equal plain-torch loop, medians of ratios in turns, 2 threads",
        seeds=[0],
        figure=figure,
        bar="at least 1.3x the words and characters per second",
        met=met,
        measured=measured,
    )


if __name__ == "__main__":
    main()
