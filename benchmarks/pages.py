"""The theory's experiments in full, and the page of every recipe.

python benchmarks/pages.py [--data FOLDER] [--recipe NAME]... NAME...       names: lab, reports; "all" for both

lab        every experiment as `clew lab all --json` runs it: held, and how long each takes
reports    every recipe is trained for a few steps on its own data, and diagnosed: the page's size, the seconds it
           takes, and what a browser says of it at two widths

Each writes results/8/NAME.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import patterns
import torch
from pairs import PARTS, unpacked
from result import ROOT, commit, write

import clew
import recipes
from clew.lab import NAMES, experiment
from clew.report.run import report

SECONDS, QUICK, BYTES = 60, 5, 3_000_000
FEW = ("train.epochs=0", "train.minutes=0", "train.steps=12", "train.validate_every=12", "decode.beam=1")
PAIRS = {"g2p": "g2p-cmudict", "tatoeba": "mt-tatoeba-eng-fra"}
SAMPLES = {"co2": "sample:co2", "sunspots": "forecast-classic/sunspot.month.csv"}
GENERATED = ("hull", "sorting", "tour")  # their sources are drawn, as `pointers.py` has it


def lab() -> None:
    at, rows, seconds, quick = commit(), [], {}, {}
    torch.set_num_threads(1)  # as `clew lab` has it
    for name in NAMES:
        started = time.perf_counter()
        experiment(name).run(quick=True)
        quick[name] = round(time.perf_counter() - started, 1)
        started = time.perf_counter()
        said = subprocess.run(
            [sys.executable, "-m", "clew", "lab", name, "--json"], stdout=subprocess.PIPE, text=True, check=False
        )
        seconds[name] = round(time.perf_counter() - started, 1)
        rows += json.loads(said.stdout)["experiments"]
        held = [row["holds"] for row in rows if row["experiment"] == name]
        took = f"{seconds[name]} s, quick {quick[name]} s"
        print(f"{experiment(name).CLAIM} {name}: {sum(held)} of {len(held)} hold, {took}", flush=True)
    write(
        "8/lab",
        "claims L1 to L19, each a full run of its own: every number beside what it should be",
        seeds=[0],
        figure={
            "held": sum(row["holds"] for row in rows),
            "of": len(rows),
            "seconds": seconds,
            "quick": quick,
            "experiments": rows,
        },
        bar=f"all hold, each within {SECONDS} s (start of Python included), quick within {QUICK} s",
        met=all(row["holds"] for row in rows) and max(seconds.values()) <= SECONDS and max(quick.values()) <= QUICK,
        measured=at,
    )


def source_of(name: str, data: Path, work: Path) -> Path | str:
    if name in recipes.LINES:
        return data / recipes.LINES[name].source
    if name in patterns.LINES:
        return patterns.source_of(patterns.LINES[name], data, work)
    if name in PAIRS:
        for part in PARTS:
            lines = unpacked(data / PAIRS[name], part).splitlines(keepends=True)[:2000]
            (work / f"{part}.tsv").write_text("".join(lines))
        return work / "train.tsv"
    if name in GENERATED:
        rows = [{"items": [[i / 9, j / 7] for i in range(4)], "order": [0, 1, 2, 3]} for j in range(80)]
        if name == "sorting":
            rows = [{"items": [(3 * i + j) % 7 / 7 for i in range(4)], "order": [0, 1, 2, 3]} for j in range(80)]
        (work / "orders.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return work / "orders.jsonl"
    return SAMPLES[name] if SAMPLES[name].startswith("sample:") else data / SAMPLES[name]


def looked_at(file: Path, browser: Any) -> list[str]:
    """What a browser complains of, at the width of a phone and of a desk."""
    complaints: list[str] = []
    for width in (360, 1280):
        opened = browser.new_page(viewport={"width": width, "height": 800})
        opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.goto(file.as_uri())
        if (wide := opened.evaluate("document.documentElement.scrollWidth")) > width:
            complaints.append(f"{wide} pixels wide at {width}")
        opened.close()
    return complaints


def reports(data: Path, only: list[str]) -> None:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        sys.exit("needs chromium to look at the pages with")
    at, rows = commit(), []
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as run:
        browser = run.chromium.launch(executable_path=path, args=quiet)
        for recipe in sorted((ROOT / "recipes").glob("*.toml")):
            if only and recipe.stem not in only:
                continue
            with tempfile.TemporaryDirectory() as folder:
                work = Path(folder)
                source = source_of(recipe.stem, data, work)
                said = clew.train(source, work / "run", recipe=recipe, overrides=FEW, progress=False)
                started = time.perf_counter()
                page = report(work / "run").html()
                seconds = round(time.perf_counter() - started, 1)
                (work / "report.html").write_text(page)
                complaints = looked_at(work / "report.html", browser)
            row = {"recipe": recipe.stem, "task": said["task"], "bytes": len(page.encode()), "seconds": seconds}
            rows.append({**row, "complaints": complaints})
            print(rows[-1], flush=True)
        browser.close()
    if only:
        return
    write(
        "8/reports",
        "the page of every recipe, after a few steps of training on its own data",
        seeds=[0],
        figure={"slowest": max(row["seconds"] for row in rows), "rows": rows},
        bar=f"no complaint of a browser's, under {BYTES:,} bytes, in under {SECONDS} s",
        met=all(r["bytes"] < BYTES and r["seconds"] < SECONDS and not r["complaints"] for r in rows),
        measured=at,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--recipe", action="append", default=[], help="reports of these alone, and nothing is written")
    parser.add_argument("names", nargs="+", choices=["lab", "reports", "all"])
    asked = parser.parse_args()
    if "lab" in asked.names or "all" in asked.names:
        lab()
    if "reports" in asked.names or "all" in asked.names:
        if not asked.data.is_dir():
            sys.exit("needs --data, the folder of the data sets")
        reports(asked.data, asked.recipe)


if __name__ == "__main__":
    main()
