"""`make demo`: the commands of a first hour, run as a person would, with their output.

Trains on the CO2 record of Mauna Loa, compares with the naive forecasts on the held-out tail, and streams the record
through the trained model step by step, holding the last forecast against that of the whole pass. Then digits are told
apart, row by row of their pixels, and a text is learned letter by letter and written on. In the end a page says what
that model remembers.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from clew import load
from clew.data.sources import read_table
from clew.data.table import numeric

RUN, DIGITS, PROVERBS = Path("runs/demo"), Path("runs/digits"), Path("runs/proverbs")


def clew(*arguments: str, feed: str | None = None) -> str:
    """Run one command, show it, and give back what it printed."""
    print(f"\n$ clew {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", "clew", *arguments], input=feed, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def main() -> None:
    for run in (RUN, DIGITS, PROVERBS):
        shutil.rmtree(run, ignore_errors=True)
    forecast()
    classify()
    write()
    remember()


def forecast() -> None:
    print(clew("train", "sample:co2", "--out", str(RUN)), end="")
    metrics = json.loads((RUN / "metrics.json").read_text())
    whole = [float(row.split(",")[1]) for row in clew("predict", str(RUN), "sample:co2").splitlines()[1:]]
    print("step,co2\n" + "\n".join(f"{step},{value:.2f}" for step, value in enumerate(whole[:3], 1)) + "\n...")
    values = numeric(read_table("sample:co2"), "co2")
    lines = clew("stream", str(RUN), feed="\n".join(map(str, values.tolist())) + "\n").splitlines()
    print("\n".join(["...", *(line[:76] + "..." for line in lines[-2:])]))
    streamed = np.array([json.loads(line)["forecast"] for line in lines])
    tail = len(values) - len(values) // 10
    passes = np.concatenate([load(RUN).backtest(values[:, None], tail, 1), [whole]])  # each origin, and the end
    ends = [*range(tail - 1, len(values) - len(whole)), len(values) - 1]
    gap = np.abs(streamed[ends] - passes).max()
    print(
        f"\n{len(lines)} steps streamed one by one. The {len(ends)} forecasts of the held-out tail differ from those of"
    )
    print(f"the whole pass by at most {gap:.1e} ppm (single precision).")
    print(f"The picture is {RUN}/forecast.svg")
    if gap > 1e-3:
        sys.exit("the stream and the whole pass differ")
    if metrics["metrics"]["mase"] >= metrics["baseline"]["seasonal_naive"]["mase"]:
        sys.exit("the model does not beat the seasonal naive forecast")


def classify() -> None:
    task = ("--task", "classify", "--target", "digit", "--set", "channels=8")
    print(clew("train", "sample:digits", *task, "--out", str(DIGITS)), end="")
    accuracy = json.loads((DIGITS / "metrics.json").read_text())["metrics"]["accuracy"]
    if accuracy < 0.9:
        sys.exit(f"only {accuracy:.1%} of the digits are told apart")


def write() -> None:
    print(clew("train", "sample:proverbs", "--set", "steps=300", "--out", str(PROVERBS)), end="")
    print(clew("generate", str(PROVERBS), "--prompt", "The wise ", "--length", "160", "--temperature", "0.6"), end="")


def remember() -> None:
    page = PROVERBS / "report.html"
    print(clew("diagnose", str(PROVERBS), "--out", str(page)), end="")
    if not page.exists():
        sys.exit("no page was written")
    print(f"\nThe page is {page}")


if __name__ == "__main__":
    main()
