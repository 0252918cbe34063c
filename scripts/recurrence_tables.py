"""Writes docs/recurrences.md from the measurements in results/5: python scripts/recurrence_tables.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmark_tables import table

ROOT = Path(__file__).resolve().parents[1]


def load(name: str, issue: int = 5) -> dict[str, Any]:
    return json.loads((ROOT / "results" / str(issue) / f"{name}.json").read_text())


def cells(mixers: dict[str, Any], step: dict[str, Any]) -> str:
    rows = []
    for name, row in mixers["figure"]["table"].items():
        at = step["figure"]["cells"][name]["256"]
        rows.append(
            [f"`{name}`", f"{row['forward']:,}", f"{row['training']:,}", at["us"]["cell"]]
            + [f"{at['times_the_lstm']:.2f}", f"{row['state_bytes']:,}", f"{row['parameters']:,}"]
        )
    head = ["cell", "forward, tokens/s", "training, tokens/s", "step, µs", "an LSTM's", "state, bytes", "parameters"]
    return table(head, rows)


def races(mixers: dict[str, Any]) -> str:
    rows = []
    for name, peers in mixers["figure"]["races"].items():
        for peer, race in peers.items():
            ours, theirs = race["tokens_a_second"].values()
            rows.append([f"`{name}`", peer, f"{ours:,}", f"{theirs:,}", f"{race['ratio']:.2f}x"])
    return table(["cell", "beside", "Clew, tokens/s", "theirs", "ratio"], rows)


def small_steps(step: dict[str, Any]) -> str:
    rows = []
    for name, at in step["figure"]["cells"].items():
        rows.append([f"`{name}`"] + [x for w in at.values() for x in (w["us"]["cell"], f"{w['times_the_lstm']:.2f}")])
    return table(["cell", *(x for w in ("64", "128", "256") for x in (f"{w}: µs", "an LSTM's"))], rows)


def growth(measured: dict[str, Any]) -> str:
    rows = [
        [f"`{name}`", *(f"{row['exponents'][what]:.2f}" for what in ("operations", "training", "memory"))]
        for name, row in measured["figure"].items()
    ]
    return table(["cell", "operations", "time", "memory"], rows)


def long(measured: dict[str, Any]) -> str:
    rows = []
    for name, row in measured["figure"].items():
        one, windows = row["one window"]["peak_MiB"], row["windows"]["peak_MiB"]
        rows.append([f"`{name}`", *one, *windows])
    lengths = [f"{T:,}" for T in measured["lengths"]]
    return table(["cell", *(f"one window, {T}" for T in lengths), *(f"windows, {T}" for T in lengths)], rows)


def recall(measured: dict[str, Any]) -> str:
    rows = [
        [f"`{name}`", *(f"{right:.3f}" for right in row["test"].values()), row["steps"], f"{row['parameters']:,}"]
        for name, row in measured["figure"].items()
    ]
    lengths = next(iter(measured["figure"].values()))["test"]
    return table(["cell", *(f"T = {T}" for T in lengths), "steps of training", "parameters"], rows)


def language(measured: dict[str, Any]) -> str:
    rows = [
        [f"`{name}`", row["nats"], f"{row['parameters']:,}", row["width"], row["lr"]]
        + [row["steps_per_second"], f"{row['characters'] / 1e6:.1f} M"]
        for name, row in sorted(measured["figure"].items(), key=lambda item: item[1]["nats"])
    ]
    return table(["cell", "nats a character", "parameters", "width", "rate", "steps/s", "characters seen"], rows)


def choosing() -> str:
    parts = []
    for name in ("selective_copying", "induction"):
        if (ROOT / "results" / "5" / f"{name}.json").exists():
            measured = load(name)
            parts += [f"{measured['line'][0].upper()}{measured['line'][1:]}.", recall(measured)]
    return "\n\n".join(parts)


def brackets(measured: dict[str, Any]) -> str:
    rows = [
        [f"`{name}`", *(f"{of[name]['last']:.3f}" for of in measured["figure"].values())]
        + [len(measured["figure"]["one"][name]["seeds"])]
        for name in measured["figure"]["one"]
    ]
    return table(["model", "brackets of one type", "of two", "parity", "seeds"], rows)


def main() -> None:
    mixers, step, shakespeare = load("mixers"), load("step"), load("shakespeare")
    text = f"""# The recurrences, measured

Written by `scripts/recurrence_tables.py` from `results`, measured on {mixers["machine"]},
torch {mixers["torch"]}. Runners take turns in one process, numbers are compared before anything is timed, and a ratio
is the median over the turns. The machine is shared: trust ratios, not seconds.

## One mixer: batch 8, 256 steps, width 256, 2 threads

Training is forward and backward with the gradients of the input and of all weights. A step is a Stepper's at batch 1 on
one thread; beside it how many times that of an LSTM of as many parameters it takes. Options are the defaults.

{cells(mixers, step)}

Beside public implementations, with their weights and to the same numbers:

{races(mixers)}

Steps at three widths:

{small_steps(step)}

## Growth with the length of a sequence

![time, operations and memory by length](growth.svg)

Exponents of T over the last points, for one mixer of width 128; attention sees all of the sequence.

{growth(load("growth"))}

## A sequence of 65,536 steps

MiB that a training pass of one mixer of width 64 holds at most, in one window and in windows of 1,024 steps that carry
the state.

{long(load("long"))}

## Who can choose what to remember

Two blocks of width 64, the same budget for all, one seed. Time-invariant recurrences (`lru`, `s5`, `retnet`) take in
all steps alike; at this size two of the three still give most tokens.

{choosing()}

## Who can count, and who can nest

Whether a string is balanced, open or broken at its end: learned up to length 40 and depth 6, tested at length 200 and
depth 20, where half of the strings are balanced. Parity needs a state that turns around, and no stack. `stack` is a
gated MLP with `cells.StackMemory`, which remembers nothing but its stack; `gru_stack` has a GRU in the MLP's place. The
share of strings judged rightly, the median of the seeds (guessing: 0.5 of parity).

{brackets(load("brackets", 6))}

## Tiny Shakespeare at equal parameters and equal time

{shakespeare["minutes"]:g} minutes of training each on 2 threads, one seed, the rate chosen on validation by short runs;
the test part was read once.

{language(shakespeare)}
"""
    (ROOT / "docs" / "recurrences.md").write_text(text)


if __name__ == "__main__":
    main()
