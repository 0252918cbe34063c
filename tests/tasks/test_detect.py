"""Sparse events: from a file to a model, whole and as a stream, and what is said where it cannot be done."""

from __future__ import annotations

import csv
import io
import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

import clew
from clew.errors import ConfigError, DataError

SETTINGS = {
    **{"task": "detect", "progress": False, "threads": 1, "width": 12, "steps": 120, "lr": 2e-2, "window": 64},
    **{"patience": 0, "dropout": 0.0},
}
BUMP = (0.5, 1.5, 2.0, 1.5, 0.7, 0.3)


def series(n: int, seed: int, apart: tuple[int, int] = (15, 60)) -> list[tuple[float, str]]:
    """Noise with bumps; an event is where one begins. A single high step is none."""
    r = random.Random(seed)
    x, events, t = [r.gauss(0, 0.2) + 1.5 * (r.random() < 0.03) for _ in range(n)], ["quiet"] * n, 20
    while t < n - 10:
        for k, height in enumerate(BUMP):
            x[t + k] += height
        events[t : t + 3] = ["bump"] * 3  # one event, though three steps are called so
        t += r.randint(*apart)
    return list(zip(x, events, strict=True))


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("bumps") / "bumps.csv"
    file.write_text("x,what\n" + "".join(f"{x:.3f},{what}\n" for x, what in series(3000, 0)))
    return file


@pytest.fixture(scope="module")
def run(table: Path) -> Path:
    clew.train(table, table.parent / "run", target="what", **SETTINGS)
    return table.parent / "run"


def test_events_are_found(run: Path) -> None:
    found = json.loads((run / "metrics.json").read_text())
    assert found["metrics"].keys() >= {"f1", "precision", "recall"}
    assert found["metrics"]["f1"] > 0.3 + found["baseline"]["even"]["f1"]
    assert abs(found["metrics"]["delay"]) <= 2


def test_one_step_in_a_hundred(tmp_path: Path) -> None:
    """What calls no step an event, which is right at 99 of 100, has an f1 of 0."""
    rows = series(6000, 1, (60, 140))
    begins = sum(a != b == "bump" for (_, a), (_, b) in pairwise(rows))
    assert 0.008 < begins / len(rows) < 0.012
    (tmp_path / "rare.csv").write_text("x,what\n" + "".join(f"{x:.3f},{what}\n" for x, what in rows))
    found = clew.train(tmp_path / "rare.csv", tmp_path / "run", target="what", **SETTINGS)
    assert found["metrics"]["f1"] > 0.5


def test_a_stream_says_the_same_two_steps_later(run: Path, table: Path, run_clew) -> None:
    said = run_clew("predict", run, table)
    assert said.code == 0, said.err
    rows = list(csv.DictReader(io.StringIO(said.out)))[:400]
    assert set(rows[0]) == {"sequence", "step", "what", "probability"}
    feed = "".join(line.partition(",")[0] + "\n" for line in table.read_text().splitlines()[1:401])
    answers = [json.loads(line) for line in run_clew("stream", run, feed=feed).out.splitlines()]
    assert answers[0]["steps_ago"] == 2
    streamed = [answer["what"][0] for answer in answers]
    assert sum(streamed) > 5
    assert streamed[2:] == [int(row["what"]) for row in rows[:-2]]
    assert all(
        abs(answer["probability"][0] - float(row["probability"])) < 1e-5
        for answer, row in zip(answers, rows, strict=True)
    )


@pytest.mark.parametrize(
    "options",
    [{"focal": 2.0}, {"class_weights": "balanced"}, {"threshold": 0.3}, {"bidirectional": True, "window": 0}],
    ids=str,
)
def test_options(options: dict, table: Path, tmp_path: Path) -> None:
    few = {**SETTINGS, "steps": 40, **options}
    found = clew.train(table, tmp_path / "run", target="what", **few)
    assert found["metrics"]["f1"] > 0.3
    trained = clew.load(tmp_path / "run")
    threshold = float(trained.model.peaks.threshold)
    assert threshold == pytest.approx(options["threshold"]) if "threshold" in options else 0 < threshold < 1
    again = clew.evaluate(tmp_path / "run", table)
    assert again["metrics"]["f1"] > 0.3


def test_what_cannot_be_done_is_said(table: Path, tmp_path: Path) -> None:
    def refused(kind: type[Exception], says: str, file: Path = table, **settings: object) -> None:
        with pytest.raises(kind, match=says):
            clew.train(file, tmp_path / "no", **{**SETTINGS, "target": "what", **settings})

    refused(DataError, "never holds 'bmp' in the training part", event="bmp")
    refused(DataError, r"holds \d+ different values, where an event has two", target="x", inputs=["x"])
    refused(ConfigError, "mels says nothing to the task 'detect'", mels=20)
    refused(ConfigError, "label_smoothing says nothing to the task 'detect'", label_smoothing=0.1)
    refused(ConfigError, "tolerance", tolerance=-1)
    refused(ConfigError, "focal says nothing to the task 'tag'", task="tag", focal=1.0)
    flat = tmp_path / "flat.csv"
    flat.write_text("x,what\n" + "".join(f"{i},{'ab'[i >= 195]}\n" for i in range(200)))
    refused(DataError, "1 different values", flat)


@pytest.mark.parametrize("task", ["detect", "tag"])
def test_the_times_of_rows_are_no_words(task: str, tmp_path: Path, run_clew) -> None:
    file = tmp_path / "dated.csv"
    rows = series(600, 1)
    file.write_text(
        "date,x,what\n"
        + "".join(f"2026-01-{1 + i // 60:02} 10:{i % 60:02},{x:.3f},{what}\n" for i, (x, what) in enumerate(rows))
    )
    said = run_clew("train", file, "--task", task, "--target", "what", "--set", "steps=2", "--out", tmp_path / "run")
    assert said.code == 0, said.err
    assert "input: 'x'" in said.err
