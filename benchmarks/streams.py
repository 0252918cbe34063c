"""Streams in process, and models as C and ONNX.

python benchmarks/streams.py [push | batcher | c | onnx | all]

push       one step of one stream: raw numbers in, the answer out
batcher    1,000 streams side by side, beside one after the other, and beside onnxruntime called for each
c          the exported C beside a Stepper; its int8; under valgrind
onnx       every recurrence as ONNX, `step` and `chunk`, at 5 shapes that are not the one it was exported with

Each line writes results/9/NAME.json. push, batcher and c want the machine to themselves.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpu_step import with_onnx
from race import check, ratio, turns
from result import commit, write
from torch import nn

import clew
from clew.cells import LSTM, RECURRENCES, Pointwise, Residual, Stack
from clew.data.series import Scaler
from clew.models import Single
from clew.models.heads.numbers import NumberHead
from clew.stream import Batcher, Session, Stepper
from clew.stream.export import c_proof, onnx, parity, to_c
from clew.stream.export.run import SHAPES, _tried
from clew.tasks.plain import Plain

STREAMS = 1000
FAST = ("-std=c99", "-O3", "-march=native", "-ffast-math")
TIMED = """#define _POSIX_C_SOURCE 199309L
#include "model.h"
#include <stdio.h>
#include <time.h>
int main(void) {
  static model s;
  static float x[MODEL_INPUTS], y[MODEL_OUTPUTS];
  struct timespec a, b;
  model_init(&s);
  for (int i = 0; i < 1000; ++i) model_step(&s, x, y);
  clock_gettime(CLOCK_MONOTONIC, &a);
  for (int i = 0; i < 20000; ++i) {
    x[0] = 0.5f * y[0];
    model_step(&s, x, y);
  }
  clock_gettime(CLOCK_MONOTONIC, &b);
  printf("%.9f\\n", ((double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec)) / 20000);
  return 0;
}
"""


def forecaster(folder: Path, width: int = 64) -> Any:
    """A forecaster of the next value, by an LSTM over two columns."""
    draws = np.random.default_rng(0)
    rows = [f"{np.sin(t / 9) + 0.1 * draws.normal():.4f},{np.cos(t / 7):.4f}" for t in range(1000)]
    (folder / "rows.csv").write_text("\n".join(["a,b", *rows]) + "\n")
    how: dict[str, Any] = {"target": "a", "inputs": ["b"], "horizon": 1, "mode": "direct", "cell": "lstm"}
    how |= {"task": "forecast", "width": width, "layers": 1, "steps": 20}
    clew.train(folder / "rows.csv", folder / "run", progress=False, **how)
    return clew.load(folder / "run")


def plain_lstm(H: int = 64) -> Plain:
    torch.manual_seed(0)
    model = Single(Stack(LSTM(H, H)), NumberHead(H, 1)).eval()
    return Plain(model, [f"x{i}" for i in range(H)], ["y"], lambda y: y, Scaler(np.zeros(H), np.ones(H)))


def push(folder: Path, at: str) -> None:
    session, row = Session(forecaster(folder)), [0.1, 0.2]
    times = []
    for _ in range(50):
        began = time.perf_counter()
        for _ in range(1000):
            session.push(row)
        times.append((time.perf_counter() - began) * 1e3)
    quarters = [round(float(q), 2) for q in np.quantile(times, [0.25, 0.5, 0.75])]
    figure = {"microseconds": quarters[1], "quarters": quarters}
    line = "Session.push of one step (2 columns, LSTM of 64, the next value): median of 50 times 1,000"
    write("9/push", line, seeds=[0], figure=figure, bar="at most 15 us", met=quarters[1] <= 15, measured=at)


def batcher(folder: Path, at: str) -> None:
    model = forecaster(folder)
    rows = np.random.default_rng(0).normal(size=(STREAMS, 2))
    lines = rows.tolist()
    lstm = next(m for m in model.model.modules() if isinstance(m, LSTM))
    once = with_onnx("lstm", LSTM(lstm.input_size, 64))
    if once is None:
        sys.exit("needs onnxruntime")
    wide = np.resize(rows, (STREAMS, 1, lstm.input_size)).astype(np.float32)
    sides = {n: Batcher(model, n) for n in (1, 10, 100, STREAMS)}
    joined = {n: np.array([side.join() for _ in range(n)]) for n, side in sides.items()}
    sessions = [Session(model) for _ in range(STREAMS)]
    states = [{s: np.zeros((1, 1, 64), np.float32) for s in "hc"} for _ in range(STREAMS)]

    def one_by_one() -> list[np.ndarray]:
        return [np.array([s.push(line)["forecast"] for s, line in zip(sessions, lines, strict=True)], np.float32)]

    def side_by_side() -> list[np.ndarray]:
        return [sides[STREAMS].step(joined[STREAMS], rows)]

    def by_onnx() -> None:
        for x, state in zip(wide, states, strict=True):
            once(x, state)

    check({"one by one": one_by_one, "side by side": side_by_side}, 1e-4)
    times = turns({"one": one_by_one, "side": side_by_side, "onnx": by_onnx}, 40)
    faster = {"push": ratio(times, "side", "one"), "onnxruntime": ratio(times, "side", "onnx")}
    per_stream = {name: round(statistics.median(t) / STREAMS * 1e6, 3) for name, t in times.items()}
    grows = {}
    for n, side in sides.items():
        began = time.perf_counter()
        for _ in range(20000 // n):
            side.step(joined[n], rows[:n])
        grows[n] = round((20000 // n) * n / (time.perf_counter() - began))
    write(
        "9/batcher",
        "1,000 streams, LSTM of 64: steps a second side by side, beside Session.push one by one (raw numbers in,"
        " answers out) and beside onnxruntime's LSTM called for each (without scaling and readout)",
        seeds=[0],
        figure={"times faster than": faster, "microseconds a step": per_stream, "steps a second, by streams": grows},
        bar="at least 5 times push, 10 times onnxruntime",
        met=faster["push"] >= 5 and faster["onnxruntime"] >= 10,
        measured=at,
    )


def c(folder: Path, at: str) -> None:
    plain = plain_lstm()
    figure: dict[str, Any] = {"flags": " ".join(FAST), **c_proof.version()}
    x_TI = np.random.default_rng(0).normal(size=(500, 64)).astype(np.float32)
    ours = parity.own_answers(plain, [x_TI])
    ratios = {}
    for weights in ("float32", "int8"):
        source, stepper = to_c(plain, weights=weights), Stepper(plain, 1, weights)
        place = folder / weights
        place.mkdir()
        source.save(place)
        (place / "timed.c").write_text(TIMED)
        build = ["gcc", *FAST, "timed.c", "model.c", "-o", "timed", "-lm"]
        subprocess.run(build, cwd=place, check=True)
        times: dict[str, list[float]] = {"c": [], "stepper": []}
        for _ in range(15):
            times["c"].append(float(subprocess.run([place / "timed"], capture_output=True, check=True).stdout))
            began = time.perf_counter()
            for _ in range(20000):
                stepper.run()
            times["stepper"].append((time.perf_counter() - began) / 20000)
        ratios[weights] = 1 / ratio(times, "c", "stepper")
        strict = c_proof.answers(source, [x_TI])
        fast = c_proof.answers(source, [x_TI], FAST)
        figure[weights] = {
            "difference": parity.difference(strict, ours),
            "difference with the fast flags": parity.difference(fast, ours),
            "bytes": {"code": c_proof.code_size(source), "weights": source.weights, "state": source.state},
            "microseconds": round(1e6 * statistics.median(times["c"]), 2),
            "times a Stepper's": round(ratios[weights], 2),
        }
        said = subprocess.run(
            ["valgrind", "--error-exitcode=9", "--leak-check=full", c_proof.compiled(source, place)],
            input="\n".join(",".join(map(str, row)) for row in x_TI[:50].tolist()),
            capture_output=True,
            text=True,
        )
        figure[weights]["valgrind"] = said.stderr.strip().splitlines()[-1].split("== ")[-1]
    small = figure["int8"]["bytes"]["weights"] / figure["float32"]["bytes"]["weights"]
    clean = all("0 errors" in figure[weights]["valgrind"] for weights in ratios)
    met = ratios["float32"] <= 2.5 and figure["float32"]["difference"] <= 1e-5 and small <= 0.27 and clean
    write(
        "9/c",
        "LSTM of 64 over 64 inputs with its readout as C99: time of a step beside a Stepper's, difference, bytes",
        seeds=[0],
        figure=figure,
        bar="at most 2.5 times a Stepper's; float32 within 1e-5; int8 a quarter of the bytes; clean under valgrind;"
        " compiled with -std=c99 -Wall -Wextra -Werror -pedantic",
        met=met,
        measured=at,
    )


def every_onnx(folder: Path, at: str) -> None:
    rows = {}
    for name, kind in RECURRENCES.items():
        torch.manual_seed(0)
        body = Stack(Pointwise(nn.Linear(3, 16), 3, 16), Residual(kind(16, 16)))
        scaler = Scaler(np.array([1.0, 2.0, 3.0]), np.array([2.0, 1.0, 0.5]))
        plain = Plain(Single(body, NumberHead(16, 2)).eval(), ["a", "b", "c"], ["u", "v"], lambda y: y, scaler)
        x_TI = scaler.invert(np.random.default_rng(0).normal(size=(50, 3))).astype(np.float32)
        began = time.perf_counter()
        try:
            step = onnx.step_graph(plain)
            _tried(plain, step, onnx.chunk_graph(step), [x_TI])
            rows[name] = {"holds": True, "nodes": len(step.graph.node)}
        except clew.ClewError as error:
            rows[name] = {"holds": False, "why": error.what}
        print(name, rows[name], round(time.perf_counter() - began, 1), flush=True)
    write(
        "9/onnx",
        f"every recurrence as ONNX, step and chunk, at (streams, steps) {', '.join(map(str, SHAPES))}",
        seeds=[0],
        figure=rows,
        bar=f"all within {parity.NEAR} of the outputs' spread",
        met=all(row["holds"] for row in rows.values()),
        measured=at,
    )


LINES = {"push": push, "batcher": batcher, "c": c, "onnx": every_onnx}

if __name__ == "__main__":
    asked = sys.argv[1:] or ["all"]
    if set(asked) - {*LINES, "all"}:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    for name in LINES if "all" in asked else asked:
        measured = commit()
        with tempfile.TemporaryDirectory() as work:
            LINES[name](Path(work), measured)
