"""What only long runs show: python benchmarks/soak.py [chunks | isolation | day | kills | resume | nan | limits | page]

chunks     1,000 ways to cut a sequence, for every recurrence, with pieces of 0 and 1 steps
isolation  1,000 streams that come and go, a tenth of them poisoned, beside what they are alone
day        864,000 steps, as many as a day has at 10 Hz: memory, and the output beside the whole pass
kills      1,000 kills in the middle of saving, full disks, damaged files
resume, nan, limits, page: what their tests say

Each line writes results/9/NAME.json.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from result import ROOT, commit, write
from streams import STREAMS, forecaster

import clew
from clew.cells import RECURRENCES
from clew.stream import Batcher, Session


def chunks(folder: Path, at: str) -> None:
    worst = {}
    for name, kind in RECURRENCES.items():
        torch.manual_seed(0)
        cell, draws = kind(5, 8).double().eval(), np.random.default_rng(0)
        x = torch.randn(2, 33, 5, dtype=torch.float64)
        largest = 0.0
        with torch.no_grad():
            y, last = cell(x)
            for _ in range(1000):
                cuts = np.sort(draws.integers(0, 34, draws.integers(0, 12)))
                cuts = np.sort(np.concatenate([cuts, draws.choice(cuts, 1)])) if len(cuts) else cuts  # a piece of 0
                cuts = np.unique([*cuts, cuts[0] + 1]) if len(cuts) and draws.random() < 0.3 else cuts  # and one of 1
                state, parts = cell.init_state(2), []
                for a, b in zip([0, *cuts.clip(0, 33)], [*cuts.clip(0, 33), 33], strict=True):
                    part, state = cell(x[:, a:b], state)
                    parts.append(part)
                pairs = [(torch.cat(parts, 1), y), *zip(clew.tree.leaves(state), clew.tree.leaves(last), strict=True)]
                for ours, whole in pairs:
                    if whole.numel():
                        near = (ours.double() - whole.double()).abs().max() / whole.double().abs().max().clamp_min(1)
                        largest = max(largest, float(near.nan_to_num(torch.inf)))
        worst[name] = largest
        print(name, largest, flush=True)
    write(
        "9/chunks",
        "1,000 ways to cut 33 steps, pieces of 0 and 1 among them, for every recurrence: largest relative difference of"
        " outputs and state from the whole pass, float64",
        seeds=[0],
        figure=worst,
        bar="at most 1e-10",
        met=max(worst.values()) <= 1e-10,
        measured=at,
    )


def isolation(folder: Path, at: str) -> None:
    model, draws = forecaster(folder), np.random.default_rng(0)
    side = Batcher(model, STREAMS)
    alone: dict[int, Session] = {}
    poisoned: set[int] = set()
    found = {"steps": 0, "of clean streams": 0, "unequal": 0, "largest difference": 0.0, "joined": 0, "left": 0}
    while found["steps"] < 200_000:
        while len(side) < STREAMS:
            stream = side.join()
            found["joined"] += 1
            if draws.random() < 0.1:
                poisoned.add(stream)
                for leaf in side._slots.leaves:
                    leaf[side._slot(stream)] = np.nan if leaf.dtype.kind == "f" else 0
            else:
                alone[stream] = Session(model)
        values = {int(s): draws.normal(size=2).tolist() for s in draws.permutation([*alone, *poisoned])[:700]}
        for stream, answer in side.push(values).items():
            if stream in alone:
                expected = alone[stream].push(values[stream])["forecast"]
                assert isinstance(answer, dict)
                off = float(np.abs(np.subtract(answer["forecast"], expected)).max())
                found["largest difference"] = max(found["largest difference"], off if off == off else float("inf"))
                found["unequal"] += answer["forecast"] != expected
                found["of clean streams"] += 1
        found["steps"] += len(values)
        for stream in draws.permutation([*alone, *poisoned])[:20].tolist():
            side.leave(stream)
            alone.pop(stream, None)
            poisoned.discard(stream)
            found["left"] += 1
    found["poisoned at the end"] = len(poisoned)
    write(
        "9/isolation",
        "1,000 streams that come and go, a tenth of them with NaN in their state: the answers of the others beside what"
        " each is alone",
        seeds=[0],
        figure=found,
        bar="at most 1e-5 apart",
        met=found["largest difference"] <= 1e-5 and len(poisoned) > 50,
        measured=at,
    )


def day(folder: Path, at: str) -> None:
    model, draws = forecaster(folder), np.random.default_rng(0)
    rows = draws.normal(size=(864_000, 2))
    session, said = Session(model), np.full(len(rows), np.nan)  # all pages of it are there
    warm, before = 20_000, 0
    for t, row in enumerate(rows.tolist()):
        if t == warm:
            before = held()
        said[t] = session.push(row)["forecast"][0]
    growth = held() - before
    with torch.no_grad():
        whole = model.model(model.scaled(rows)[None])[0]
    off = float(np.abs(model.unscaled(whole[0])[:, 0] - said).max())
    figure = {"steps": len(rows), "growth in bytes": growth, "largest difference from the whole pass": off}
    bar = "at most 1 MB; at most 1e-4 apart"
    met = growth <= 1_000_000 and off <= 1e-4
    write("9/day", "a day at 10 Hz through one session", seeds=[0], figure=figure, bar=bar, met=met, measured=at)


def held() -> int:
    """Bytes of this process that lie in no file (those of libraries come and go with the system's needs), without those
    that are free already."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


def kills(folder: Path, at: str) -> None:
    killer = ROOT / "tests" / "training" / "killer.py"
    said = subprocess.run([sys.executable, killer, folder, "1000"], capture_output=True, text=True, check=True)
    found = json.loads(said.stdout)
    figure = {"kill -9": found, "tests": tests("tests/training/test_checkpoint.py")}
    met = found["kills"] == 1000 and not (found["lost"] or found["damaged"] or found["left over"])
    write(
        "9/kills",
        "1,000 kills in the middle of saves; disks that are full, fail or are cut short; damaged files",
        seeds=[0],
        figure=figure,
        bar="the newest complete checkpoint always loads, nothing is left over; all tests pass",
        met=met and not figure["tests"]["failed"],
        measured=at,
    )


def tests(*names: str) -> dict[str, int]:
    """How many tests passed, failed and were skipped."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={file}", *names]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        suite = next(ElementTree.parse(file).iter("testsuite")).attrib
    failed, skipped = int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
    return {"passed": int(suite["tests"]) - failed - skipped, "failed": failed, "skipped": skipped}


PROVED = {  # by tests alone
    "resume": ("random stops of a run that is resumed: the same bits", ["tests/training/test_resume.py"]),
    "nan": (
        "NaN in data, loss, gradient and state: the cause named, good weights kept",
        ["tests/training/test_nan.py"],
    ),
    "limits": (
        "every limit of the server provoked; streams outlive a restart",
        ["tests/stream/test_server.py", "tests/stream/test_serving.py", "-k", "not browser"],
    ),
    "page": (
        "the page in Chromium at 360 and 1280 pixels: load, stream, numbers that change, resume, no console error",
        ["tests/stream/test_serving.py", "-k", "browser"],
    ),
}


def proved(name: str, at: str) -> None:
    line, names = PROVED[name]
    found = tests(*names)
    met = found["passed"] > 0 and not found["failed"] and not found["skipped"]
    write(f"9/{name}", line, seeds=[0], figure=found, bar="all pass, none is skipped", met=met, measured=at)


LINES = {"chunks": chunks, "isolation": isolation, "day": day, "kills": kills}

if __name__ == "__main__":
    asked = sys.argv[1:] or ["all"]
    if set(asked) - {*LINES, *PROVED, "all"}:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    for name in [*LINES, *PROVED] if "all" in asked else asked:
        measured = commit()
        if name in PROVED:
            proved(name, measured)
            continue
        with tempfile.TemporaryDirectory() as work:
            LINES[name](Path(work), measured)
