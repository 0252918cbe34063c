"""Writes docs/benchmarks.md and its picture from the measurements in results/4: python scripts/benchmark_tables.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
CELLS = {"gru": "GRU", "elman": "Elman", "lstm": "LSTM"}


def load(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "results" / "4" / f"{name}.json").read_text())


def table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def training(measured: dict[str, Any]) -> str:
    rows = []
    for cell, name in CELLS.items():
        for point in measured["figure"][cell]["points"]:
            ms, ratio = point["ms"], point["ratio"]
            rows.append(
                [name, tuple(point["sizes"]), ms["clew"], ms["torch"], ms.get("jax", ""), f"{ratio['torch']:.2f}x"]
                + [f"{ratio['jax']:.2f}x" if "jax" in ratio else ""]
            )
    return table(["cell", "B, T, I, H", "Clew ms", "torch ms", "jax ms", "torch / Clew", "jax / Clew"], rows)


def means(measured: dict[str, Any], ragged: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{measured['figure'][cell]['geometric_mean']:.2f}x",
            f"{measured['figure'][cell]['least']:.2f}x",
            f"{ragged['figure'][cell]['geometric_mean']:.2f}x",
        ]
        for cell, name in CELLS.items()
    ]
    return table(["cell", "geometric mean over the grid", "worst point", "rows of 10-100% of T, beside packed"], rows)


def steps(measured: dict[str, Any]) -> str:
    rows = []
    for name, point in measured["figure"].items():
        if "us" not in point:
            continue
        us = point["us"]
        rows.append(
            [name, us["clew"], us["in place"], us["bfloat16"], us["int8"], us["torch"], us.get("onnxruntime", "")]
            + [point["floor_us"], f"{point['error']['bfloat16']:.3f}", f"{point['error']['int8']:.3f}"]
        )
    head = ["cell, H", "step(x)", "run()", "bfloat16", "int8", "torch", "onnxruntime", "floor", "error bf16", "int8"]
    return table(head, rows)


def whole(measured: dict[str, Any]) -> str:
    rows = []
    for name, point in measured["figure"].items():
        unit = next(key for key in point if key.endswith("per_second"))
        rows.append([name, unit.split("_")[0], point[unit]["clew"], point[unit]["torch"], f"{point['ratio']:.2f}x"])
    return table(["recipe", "a second, of", "Clew", "torch", "torch / Clew"], rows)


def growth(measured: dict[str, Any]) -> str:
    rows = [[key, p["clew"], p["torch"], p.get("jax", "")] for key, p in measured["figure"].items()]
    return table(["", "Clew ms", "torch ms", "jax ms"], rows)


def memory(measured: dict[str, Any]) -> str:
    return table(["", "Clew MiB", "torch MiB"], [[key, p["clew"], p["torch"]] for key, p in measured["figure"].items()])


def draw(measured: dict[str, Any]) -> None:
    figure, axis = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
    sizes = [tuple(point["sizes"]) for point in measured["figure"]["gru"]["points"]]
    for k, (cell, name) in enumerate(CELLS.items()):
        ratios = [point["ratio"]["torch"] for point in measured["figure"][cell]["points"]]
        axis.bar([i + 0.27 * (k - 1) for i in range(len(sizes))], ratios, 0.25, label=name)
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set_yscale("log")
    axis.set_yticks([1, 2, 5, 10, 20], ["1x", "2x", "5x", "10x", "20x"])
    axis.set_xticks(range(len(sizes)), [", ".join(map(str, s)) for s in sizes], fontsize=7)
    axis.set_xlabel("B, T, I, H")
    axis.set_ylabel("times as fast as torch")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(ROOT / "docs" / "benchmarks.svg", metadata={"Date": None})


def main() -> None:
    train, ragged, step = load("train"), load("ragged"), load("step")
    (ROOT / "docs").mkdir(exist_ok=True)
    draw(train)
    text = f"""# How fast

Written by `scripts/benchmark_tables.py` from `results/4`, measured by `make bench` on {train["machine"]},
torch {train["torch"]}. Runners take turns in one process, numbers are compared before anything is timed, and a ratio is
the median over the turns. The machine is shared: trust ratios, not milliseconds.

## Training: forward and backward with the gradient of the input, 2 threads

![times as fast as torch](benchmarks.svg)

{means(train, ragged)}

Against the better of torch and jax at each point: {train["figure"]["better_of_both"]:.2f}x.

{training(train)}

## One step at batch 1, one thread, I = H, microseconds

`run()` works on buffers that are bound; `step(x)` copies in and out. The floor is the time to read the float32 weights
once from the cache that holds them. The error of smaller weights is the largest difference of an output over 300 steps,
as a part of the outputs' spread.

{steps(step)}

## Whole training loops, beside an equal plain-torch loop

{whole(load("whole_runs"))}

## Memory of a training pass, beyond what stood before it

{memory(load("memory"))}

## Growth of a GRU's training pass, (32, 128, 64, 128) and one number changed

The first pass is that of a new process, after its imports.

{growth(load("growth"))}
"""
    (ROOT / "docs" / "benchmarks.md").write_text(text)


if __name__ == "__main__":
    main()
