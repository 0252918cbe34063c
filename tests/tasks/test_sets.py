"""Sets: names that hold together and elements without an order, from a file to a model and back."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest

import clew
from clew.errors import ClewError

SETTINGS = {
    **{"task": "set", "progress": False, "threads": 1, "width": 24, "steps": 300, "lr": 1e-2, "patience": 0},
    **{"dropout": 0.0, "inputs": ["x"]},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Which of three bumps a series has, as names, and where and how high they are, in any order."""
    file, r = tmp_path_factory.mktemp("sets") / "bumps.jsonl", random.Random(0)
    rows = []
    for _ in range(240):
        x, names, places = [r.gauss(0, 0.05) for _ in range(12)], [], []
        for name, at in (("first", 2), ("second", 6), ("third", 10)):
            if r.random() < 0.5:
                height = r.choice([1.0, 2.0])
                x[at] += height
                names.append(name)
                places.append([float(at), height])
        order = list(range(len(names)))
        r.shuffle(order)
        shuffled = {"names": [names[i] for i in order], "places": [places[i] for i in order]}
        rows.append(json.dumps({"x": x, **shuffled, "heights": [places[i][1] for i in order]}))
    file.write_text("\n".join(rows) + "\n")
    return file


def test_names(table: Path, tmp_path: Path, run_clew) -> None:
    found = clew.train(table, tmp_path / "run", target="names", **SETTINGS)
    assert found["metrics"]["matched_error"] < 0.1 < found["baseline"]["usual"]["matched_error"]
    assert found["metrics"]["exact"] > 0.8
    rows = list(csv.DictReader(io.StringIO(run_clew("predict", tmp_path / "run", table).out)))
    truth = [sorted(json.loads(line)["names"]) for line in table.read_text().splitlines()]
    assert np.mean([json.loads(row["names"]) == names for row, names in zip(rows, truth, strict=True)]) > 0.8
    assert set(rows[0]) == {"row", "names", "p(first)", "p(second)", "p(third)"}


@pytest.mark.parametrize("loss", ["matching", "sinkhorn", "chamfer"])
def test_elements(table: Path, tmp_path: Path, loss: str) -> None:
    found = clew.train(table, tmp_path / "run", target="places", set_loss=loss, **{**SETTINGS, "steps": 500})
    assert found["metrics"]["matched_error"] < 0.5 * found["baseline"]["mean"]["matched_error"]
    assert found["metrics"]["count"] > 0.6 > found["baseline"]["mean"]["count"]


def test_an_order_that_means_nothing_cannot_be_learned(table: Path, tmp_path: Path) -> None:
    error = {}
    for loss in ("matching", "ordered"):
        error[loss] = clew.train(table, tmp_path / loss, target="places", set_loss=loss, **{**SETTINGS, "steps": 500})
    matched, ordered = (error[loss]["metrics"]["matched_error"] for loss in ("matching", "ordered"))
    assert matched < 0.7 * ordered


def test_numbers_come_back(table: Path, tmp_path: Path, run_clew) -> None:
    clew.train(table, tmp_path / "run", target="heights", **{**SETTINGS, "steps": 20})
    rows = list(csv.DictReader(io.StringIO(run_clew("predict", tmp_path / "run", table).out)))
    assert all(isinstance(x, float) for row in rows for x in json.loads(row["heights"]))
    assert clew.evaluate(tmp_path / "run", table)["n"] == 240
    line = json.dumps(json.loads(table.read_text().splitlines()[0])["x"][0])
    assert isinstance(
        json.loads(json.loads(run_clew("stream", tmp_path / "run", feed=line + "\n").out)["heights"]), list
    )


BAD = {
    "a loss of names": ({"target": "names", "set_loss": "chamfer"}, "", "says nothing to sets of names"),
    "no lists": ({"target": "n"}, '{"x": [1], "n": 2}', "holds no lists of numbers"),
    "uneven": ({"target": "places"}, '{"x": [1], "places": [[1, 2], [3]]}', "different width"),
    "infinite": ({"target": "heights"}, '{"x": [1], "heights": [1e999]}', "infinite"),
    "no pool": ({"target": "names", "pooling": "none"}, "", "belongs to a whole sequence"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_done_is_said(table: Path, tmp_path: Path, name: str) -> None:
    settings, line, what = BAD[name]
    file = tmp_path / "t.jsonl"
    rows = [
        {**json.loads(row), **({"n": 1} if settings["target"] == "n" else {})} for row in table.read_text().splitlines()
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + (line + "\n" if line else ""))
    with pytest.raises(ClewError, match=what):
        clew.train(file, tmp_path / "run", **{**SETTINGS, **settings})


def test_a_name_that_training_never_had(table: Path, tmp_path: Path) -> None:
    clew.train(table, tmp_path / "run", target="names", **{**SETTINGS, "steps": 2})
    (tmp_path / "t.jsonl").write_text('{"x": [1.0], "names": ["fourth"]}\n')
    with pytest.raises(ClewError, match="'fourth' does not occur"):
        clew.evaluate(tmp_path / "run", tmp_path / "t.jsonl")
