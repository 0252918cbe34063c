"""A small source and the settings of a short run for every task."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

FAST = {"progress": False, "width": 8, "threads": 1, "patience": 0, "steps": 4}
WORDS = ["red", "green", "blue", "cyan"]


def _lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def _rows(n: int = 60, steps: int = 20) -> list[dict[str, Any]]:
    r, rows = random.Random(0), []
    for _ in range(n):
        x = [[round(r.gauss(0, 1), 3), round(r.gauss(0, 1), 3)] for _ in range(steps)]
        total = sum(step[0] for step in x)
        rows.append(
            {
                "x": x,
                "label": "up" if total > 0 else "down",
                "total": round(total, 3),
                "text": " ".join(r.choice(WORDS) for _ in range(1 + (total > 0))),
                "names": sorted({r.choice(WORDS), "red" if total > 0 else "blue"}),
            }
        )
    return rows


def runs(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """By task, the source and what to train with."""
    r = random.Random(0)
    rows = _lines(folder / "rows.jsonl", _rows())
    some = [{**row, "label": None if i % 5 == 0 else row["label"]} for i, row in enumerate(_rows())]
    pairs = folder / "pairs.tsv"
    spelt = sorted({"".join(r.choice("abcd") for _ in range(r.randint(2, 6))) for _ in range(150)})
    pairs.write_text("word\tback\n" + "".join(f"{word}\t{word[::-1]}\n" for word in spelt))
    orders = []
    for _ in range(60):
        items = [round(r.random(), 3) for _ in range(4)]
        orders.append({"items": items, "order": sorted(range(4), key=items.__getitem__)})
    steps = folder / "room.csv"
    states = ["on" if t % 40 > 30 else "off" for t in range(600)]
    steps.write_text("level,state\n" + "".join(f"{math.sin(t / 7):.3f},{state}\n" for t, state in enumerate(states)))
    text = folder / "story.txt"
    text.write_text("the cat sat on the mat and the dog sat on the log. " * 40)
    sounds = ["file,text"]
    for i in range(24):
        said = r.choice(["ab", "ba", "a", "b"])
        wave = np.concatenate([np.sin(np.arange(1600) * (0.2 if letter == "a" else 0.5)) for letter in said])
        soundfile.write(folder / f"{i}.wav", 0.3 * wave, 8000)
        sounds.append(f"{i}.wav,{said}")
    manifest = folder / "sounds.csv"
    manifest.write_text("\n".join(sounds) + "\n")
    x = {"inputs": ["x"]}
    characters = {"source_unit": "character", "target_unit": "character"}
    return {
        "caption": (rows, {**x, "target": "text"}),
        "classify": (rows, {**x, "target": "label"}),
        "detect": (steps, {"inputs": ["level"], "target": "state", "event": "on", "window": 50}),
        "forecast": (steps, {"inputs": ["level"], "target": "level", "horizon": 5}),
        "generate": (text, {"window": 32}),
        "multitask": (_lines(folder / "some.jsonl", some), {**x, "targets": ["label", "total"]}),
        "point": (_lines(folder / "orders.jsonl", orders), {}),
        "regress": (rows, {**x, "target": "total"}),
        "set": (rows, {**x, "target": "names"}),
        "summarise": (pairs, {}),
        "tag": (steps, {"inputs": ["level"], "target": "state", "window": 50}),
        "transcribe": (manifest, {}),
        "translate": (pairs, {**characters, "bidirectional": False, "attention": "none"}),
    }
