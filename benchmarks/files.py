"""Files of strangers: python benchmarks/files.py

10,000 files with a few bytes changed, left out or put in, or their end cut off, over all that Clew reads: data of every
format, run folders, snapshots of streams, checkpoints; and files made to do harm. Each is read or refused by a typed
error; how long the slowest took, and what memory was left behind. Writes results/9/files.json.
"""

from __future__ import annotations

import json
import random
import shutil
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from result import ROOT, commit, write
from safetensors.torch import save
from soak import held

import clew
from clew.data.sources import read_table
from clew.errors import ClewError
from clew.stream import Session
from clew.training import checkpoint

sys.path += [str(ROOT / "tests"), str(ROOT / "tests" / "data")]
from every_task import FAST, runs
from test_damage import contents, damaged

DATA, RUNS, SNAPSHOTS, CHECKPOINTS = 6600, 2600, 500, 300
SLOWEST, GROWTH = 10.0, 200_000_000  # seconds of one file; bytes in all
TASKS = ("classify", "forecast", "generate")
PICKLE = b"\x80\x04cos\nsystem\n(S'touch /tmp/owned'\ntR."


class Tally:
    """What became of the files."""

    def __init__(self) -> None:
        self.read = self.refused = 0
        self.slowest = 0.0
        self.faults: list[str] = []

    def tried(self, what: str, read: Callable[[], Any]) -> None:
        began = time.perf_counter()
        try:
            read()
            self.read += 1
        except ClewError:
            self.refused += 1
        except BaseException:
            self.faults.append(f"{what}: {traceback.format_exc(limit=-1)}")
        self.slowest = max(self.slowest, time.perf_counter() - began)


def trained(folder: Path) -> dict[str, Path]:
    sources = runs(folder)
    for task in TASKS:
        file, settings = sources[task]
        clew.train(file, folder / task, **{**FAST, "task": task, **settings})
    return {task: folder / task for task in TASKS}


def mutated(folder: Path, tally: Tally) -> None:
    rng = random.Random(0)
    formats = contents()
    for i in range(DATA):
        name, content = formats[i % len(formats)]
        path = folder / name
        path.write_bytes(damaged(content, rng))
        tally.tried(name, lambda path=path: read_table(path))
    folders = trained(folder)
    for i in range(RUNS):
        run = folders[TASKS[i % len(TASKS)]]
        file = run / ("recipe.toml", "plan.json", "model.safetensors")[i // len(TASKS) % 3]
        kept = file.read_bytes()
        file.write_bytes(damaged(kept, rng))
        tally.tried(f"{run.name}/{file.name}", lambda run=run: clew.load(run))
        file.write_bytes(kept)
    session = Session(clew.load(folders["classify"]))
    session.push([[0.1, 0.2], [0.3, 0.4]])
    saved = session.snapshot()
    for _ in range(SNAPSHOTS):
        tally.tried("snapshot", lambda: session.restore(damaged(saved, rng)))
    place = folder / "checkpoints"
    place.mkdir()
    file = checkpoint.save(place, 1, {"a": torch.randn(100), "b": torch.arange(3)}, {"number": 1})
    kept = file.read_bytes()
    for _ in range(CHECKPOINTS):
        file.write_bytes(damaged(kept, rng))
        tally.tried("checkpoint", lambda: checkpoint.newest(place))


def attacks(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each must be refused."""
    run = folder / "classify"
    session = Session(clew.load(run))
    huge = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    deep = b"[" * 200_000
    weights = {
        "a pickle": PICKLE,
        "a pickle that torch wrote": b"PK\x03\x04" + PICKLE,
        "a header of 2^63 bytes": struct.pack("<Q", 1 << 63) + b"{}",
        "a tensor of 4 TB": struct.pack("<Q", len(huge)) + huge,
        "other tensors": save({"x": torch.zeros(3)}),
        "nothing": b"",
    }
    for what, content in weights.items():
        yield f"weights: {what}", lambda content=content: _with(run, "model.safetensors", content)
        yield f"snapshot: {what}", lambda content=content: session.restore(content)
    plans = {
        "nested 200,000 deep": deep,
        "a list": b"[]",
        "other types": b'{"input": 1, "answers": {"names": {"a": 1}}}',
        "a number of 400 digits": b'{"input": {"kind": "numbers", "channels": ' + b"9" * 400 + b"}}",
    }
    for what, content in plans.items():
        yield f"plan: {what}", lambda content=content: _with(run, "plan.json", content)
    recipes = {
        "a cell by its import path": b'task = "classify"\n[model]\ncell = "os.system"\n',
        "a width of 10^12": b'task = "classify"\n[model]\nwidth = 1000000000000\n',
        "a million layers": b'task = "classify"\n[model]\nlayers = 1000000\n',
        "a task by its path": b'task = "../../classify"\n',
    }
    for what, content in recipes.items():
        yield f"recipe: {what}", lambda content=content: _with(run, "recipe.toml", content)
    yield "snapshot: 100 MB", lambda: session.restore(b"\0" * 100_000_000)
    (folder / "a.npz").write_bytes(b"PK\x03\x04" + PICKLE)
    np.save(folder / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for name in ("a.npz", "o.npy"):
        yield f"arrays: {name} with a pickle", lambda name=name: read_table(folder / name)


def _with(run: Path, name: str, content: bytes) -> Any:
    """Load a copy of a run in which one file is another."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(run, copy)
        (copy / name).write_bytes(content)
        return clew.load(copy)


def main() -> None:
    at, tally = commit(), Tally()
    Path("/tmp/owned").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        mutated(folder, tally)
        before = held()
        harmless, refused, slowest = [], 0, 0.0
        for what, read in attacks(folder):
            began = time.perf_counter()
            try:
                read()
                harmless.append(what)
            except ClewError:
                refused += 1
            except BaseException:
                tally.faults.append(f"{what}: {traceback.format_exc(limit=-1)}")
            slowest = max(slowest, time.perf_counter() - began)
        growth = held() - before
    for fault in tally.faults[:5]:
        print(fault, file=sys.stderr)
    figure = {
        "files": tally.read + tally.refused + len(tally.faults),
        "read": tally.read,
        "refused": tally.refused,
        "slowest seconds": round(max(tally.slowest, slowest), 2),
        "attacks": {"refused": refused, "not refused": harmless, "bytes left behind": growth},
        "faults": [fault.splitlines()[0] for fault in tally.faults],
        "code was run": Path("/tmp/owned").exists(),
    }
    met = not tally.faults and not harmless and refused >= 20 and not figure["code was run"]
    write(
        "9/files",
        "10,000 files with bytes changed over all formats, and files made to do harm: each read, or refused by a typed"
        " error; attacks all refused",
        seeds=[0],
        figure=figure,
        bar=f"no other error, no code run, each within {SLOWEST:g} s, at most {GROWTH:,} bytes left",
        met=met and figure["slowest seconds"] <= SLOWEST and growth <= GROWTH and figure["files"] >= 10_000,
        measured=at,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
