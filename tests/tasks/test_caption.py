"""Caption: from numbers to a model that writes what they show."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import FAST

import clew
from clew.errors import ConfigError, DataError, NotCausalError

WORDS = ("red", "green", "blue")
SETTINGS: dict[str, Any] = {**FAST, "task": "caption", "target": "text", "width": 24, "embedding": 8, "steps": 240}


def strips(n: int, seed: int) -> list[dict[str, Any]]:
    """One to three stripes of colour, a few columns of pixels each, and their names in order."""
    r, rows = random.Random(seed), []
    for _ in range(n):
        picture, names = [], [r.choice(WORDS) for _ in range(r.randint(1, 3))]
        for name in names:
            pixels = [1.0 if name == other else 0.0 for other in WORDS]
            picture += [[p + r.gauss(0, 0.1) for p in pixels] for _ in range(r.randint(3, 5))] + [[0.0] * 3]
        rows.append({"picture": [[round(v, 3) for v in column] for column in picture], "text": " ".join(names)})
    return rows


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strips")
    clew.train(write(folder / "strips.jsonl", strips(300, 0)), folder / "run", **SETTINGS)
    return folder / "run"


def test_it_says_what_it_sees(run: Path) -> None:
    found = json.loads((run / "metrics.json").read_text())
    assert found["metrics"].keys() == found["baseline"]["commonest"].keys() == {"exact", "cer"}
    assert found["metrics"]["exact"] > 0.7 > 0.3 > found["baseline"]["commonest"]["exact"]


def test_predictions(run: Path, tmp_path: Path, run_clew) -> None:
    rows = strips(20, 5)
    file = write(tmp_path / "new.jsonl", [{"picture": row["picture"]} for row in rows])
    said = run_clew("predict", run, file, "--nbest", 2)
    assert said.code == 0, said.err
    found = list(csv.DictReader(io.StringIO(said.out)))
    assert list(found[0]) == ["row", "rank", "text", "score", "nats"]
    best = [row["text"] for row in found if row["rank"] == "1"]
    assert np.mean([text == row["text"] for text, row in zip(best, rows, strict=True)]) > 0.7


def test_a_vector_is_enough(tmp_path: Path) -> None:
    """One row of numbers: one-to-many."""
    r, rows = random.Random(0), ["a,b,text"]
    for _ in range(150):
        a, b = r.choice([0, 1]), r.choice([0, 1])
        name = ["none at all", "the first", "the second one", "both"][a + 2 * b]
        rows.append(f"{a + r.gauss(0, 0.1):.3f},{b + r.gauss(0, 0.1):.3f},{name}")
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    plain = {"attention": "none", "bidirectional": False}
    found = clew.train(tmp_path / "a.csv", tmp_path / "run", **{**SETTINGS, **plain})
    assert found["metrics"]["exact"] > 0.9


def test_what_cannot_be_done_is_said(run: Path, tmp_path: Path) -> None:
    file = run.parent / "strips.jsonl"
    with pytest.raises(ConfigError, match="copying says nothing to the task 'caption'"):
        clew.train(file, tmp_path / "run", **{**SETTINGS, "copying": True})
    (tmp_path / "texts.csv").write_text("a,b\n" + "".join(f"one {i},two {i}\n" for i in range(40)))
    with pytest.raises(ConfigError, match="is --task translate"):
        clew.train(tmp_path / "texts.csv", tmp_path / "run", **{**SETTINGS, "target": "b", "inputs": ["a"]})
    rows = strips(30, 0)
    rows[7]["text"] = ""
    with pytest.raises(DataError, match="row 8, column 'text': the label is empty"):
        clew.train(write(tmp_path / "gap.jsonl", rows), tmp_path / "run", **SETTINGS)
    rows = strips(30, 0)
    rows[3]["picture"] = [[0.5, 0.5]]
    with pytest.raises(DataError, match="row 4, column 'picture': steps of different width"):
        clew.train(write(tmp_path / "other.jsonl", rows), tmp_path / "run", **SETTINGS)
    with pytest.raises(NotCausalError, match="cannot stream"):
        clew.stream.Session(clew.load(run))
