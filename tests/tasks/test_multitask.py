"""Several answers to one input: learned together, with cells that are empty, and said as each task says them."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import pytest

import clew
from clew.errors import ClewError, ConfigError, DataError

SETTINGS = {
    **{"progress": False, "threads": 1, "width": 16, "steps": 150, "lr": 1e-2, "patience": 0, "dropout": 0.0},
    **{"targets": ["intent", "tags"], "letters": 4},
}


def sentences(n: int, seed: int, empty: float = 0.0) -> str:
    """What is asked for hangs on one word, and names are two words long; some cells may be empty."""
    r, rows = random.Random(seed), ["intent\ttext\ttags\tlength"]
    for _ in range(n):
        intent = r.choice(["play", "book"])
        words = [(r.choice(["the", "a", "please", "now"]), "O") for _ in range(r.randint(1, 4))]
        words.insert(r.randint(0, len(words)), (intent, "O"))
        words += [("Ada", "B-name"), ("Lovelace", "I-name")] * (r.random() < 0.5)
        cells = [intent, " ".join(w for w, _ in words), " ".join(tag for _, tag in words), str(len(words) / 2)]
        rows.append("\t".join("" if i in (0, 2) and r.random() < empty else cell for i, cell in enumerate(cells)))
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("asked") / "asked.tsv"
    file.write_text(sentences(200, 0, empty=0.2))
    return file


@pytest.fixture(scope="module")
def run(table: Path) -> Path:
    clew.train(table, table.parent / "run", **SETTINGS)
    return table.parent / "run"


def test_both_are_learned(run: Path) -> None:
    found = json.loads((run / "metrics.json").read_text())
    metrics, naive = found["metrics"], found["baseline"]["naive"]
    assert found["task"] == "multitask"
    assert metrics["intent.accuracy"] == 1.0
    assert metrics["tags.f1"] == 1.0
    assert metrics["exact"] == 1.0
    assert metrics["error"] < 0.05 < naive["error"]
    assert set(naive) < set(metrics)


@pytest.mark.parametrize(
    "settings",
    [
        {"crf": True, "bidirectional": True, "task_weights": "uncertainty"},
        {"pooling": "last", "task_weights": {"tags": 3.0}},
        {"targets": ["intent", "tags", "length"], "pooling": "attention"},
        {"window": 4},
    ],
)
def test_choices(table: Path, tmp_path: Path, settings: dict) -> None:
    found = clew.train(table, tmp_path / "run", **{**SETTINGS, **settings, "steps": 250})["metrics"]
    assert found["intent.accuracy"] > 0.85
    assert found["tags.f1"] > 0.85
    if "length" in settings.get("targets", []):
        assert found["length.r2"] > 0.5
    again = clew.evaluate(tmp_path / "run", table)
    assert again["metrics"]["tags.f1"] > 0.9


def test_predictions_are_those_of_a_stream_at_its_end(run: Path, table: Path, run_clew) -> None:
    said = run_clew("predict", run, table)
    assert said.code == 0, said.err
    rows = [row for row in csv.DictReader(io.StringIO(said.out)) if row["sequence"] == "1"]
    assert len({row["intent.p(play)"] for row in rows}) == 1  # asked once, answered at the end
    words = [row["word"] for row in rows]
    streamed = [json.loads(line) for line in run_clew("stream", run, feed=" ".join(words) + "\n").out.splitlines()][-1]
    assert streamed["tags"] == [row["tags"] for row in rows]
    assert streamed["intent.p(play)"][-1] == pytest.approx(float(rows[0]["intent.p(play)"]), abs=1e-5)


def test_numbers_without_steps(tmp_path: Path, run_clew) -> None:
    """Columns of labels with gaps, as measurements of molecules have them, and how they are shown."""
    r, rows = random.Random(0), ["A,B,smiles"]
    for _ in range(150):
        smiles = "".join(r.choice("CNOF") for _ in range(r.randint(2, 6)))
        cells = [str(int(letter in smiles)) if r.random() < 0.7 else "" for letter in "NO"]
        rows.append(",".join([*cells, smiles]))
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    options = ["--set", "width=16", "--set", "steps=150", "--set", "threads=1", "--set", "lr=1e-2"]
    said = run_clew("train", tmp_path / "t.csv", "--out", tmp_path / "run", "--target", "A", "--target", "B", *options)
    assert said.code == 0, said.err
    assert "targets: 'A' (label), 'B' (label)" in said.err
    assert "  A: accuracy" in said.out
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    assert found["auc"] == pytest.approx((found["A.auc"] + found["B.auc"]) / 2)
    assert found["auc"] > 0.9


def test_several_numbers_for_each_step_of_one_series(tmp_path: Path) -> None:
    """Cut in time order, each with its own answers."""
    r, rows, a, b = random.Random(0), ["u,a,b"], 0.0, 0.0
    for _ in range(600):
        u = r.gauss(0, 1)
        a, b = 0.7 * a + u, 0.5 * b - u
        rows.append(f"{u:.4f},{a:.4f},{b:.4f}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    kinds = {"a": "numbers", "b": "numbers"}
    settings = {**SETTINGS, "targets": ["a", "b"], "target_kinds": kinds, "window": 32, "batch": 4, "steps": 300}
    found = clew.train(tmp_path / "t.csv", tmp_path / "run", **settings)
    assert found["parts"] == {"train": 1, "valid": 1, "test": 1}
    assert found["metrics"]["a.r2"] > 0.8
    assert found["metrics"]["b.r2"] > 0.8


def test_an_empty_cell_is_no_class(tmp_path: Path) -> None:
    """Nor is a word for nothing among numbers; classes are counted by the cells that hold one."""
    cells = {0: "", 1: "NA", 2: " "}
    rows = [f"{i % 2},{cells.get(i % 4, (i // 4) % 2)},{'NO'[i % 2] * (1 + i % 4)}x{i}" for i in range(120)]
    (tmp_path / "t.csv").write_text("A,B,text\n" + "\n".join(rows) + "\n")
    settings = {**SETTINGS, "targets": ["A", "B"], "inputs": ["text"], "steps": 3}
    train = clew.train(tmp_path / "t.csv", tmp_path / "run", **settings)["parts"]["train"]
    first, second = clew.load(tmp_path / "run").answers.parts
    assert first.names == second.names == ["0", "1"]
    assert first.counts.sum() == train
    assert 0 < second.counts.sum() < train / 2


BAD = {
    "one target": ({"targets": ["intent"]}, ConfigError, "two or more different"),
    "the same twice": ({"targets": ["intent", "1"]}, ConfigError, "two or more different"),
    "no such column": ({"targets": ["intent", "tag"]}, DataError, "no column 'tag'"),
    "a weight of none": ({"task_weights": {"tagz": 1.0}}, ConfigError, "no target 'tagz'"),
    "a kind of none": ({"target_kinds": {"text": "label"}}, ConfigError, "no target 'text'"),
    "a chain without tags": ({"targets": ["intent", "length"], "crf": True}, ConfigError, "no target holds tags"),
    "a chain in windows": ({"crf": True, "window": 8}, ConfigError, "learned whole"),
    "a target beside": ({"target": "intent"}, ConfigError, "data.target says nothing"),
    "the last step of both ways": ({"bidirectional": True, "pooling": "last"}, ConfigError, "nothing of the rest"),
    "no pool": ({"pooling": "none"}, ConfigError, "one answer a sequence"),
    "bytes with tags": ({"source_unit": "byte"}, ConfigError, "belong to words or letters"),
    "masks of texts": ({"mask_steps": 3}, ConfigError, "train.mask_steps says nothing to texts"),
    "a scan of texts": ({"scan": "pixels"}, ConfigError, "data.scan says nothing to texts"),
    "several for one task": ({"task": "classify"}, ConfigError, "data.targets says nothing"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_done_is_said(table: Path, tmp_path: Path, name: str) -> None:
    settings, kind, what = BAD[name]
    with pytest.raises(ClewError, match=what) as error:
        clew.train(table, tmp_path / "run", **{**SETTINGS, **settings})
    assert isinstance(error.value, kind)
    assert not (tmp_path / "run").exists()


def test_an_empty_column(table: Path, tmp_path: Path) -> None:
    lines = table.read_text().splitlines()
    (tmp_path / "t.tsv").write_text("\n".join([lines[0] + "\tnone", *(line + "\t" for line in lines[1:])]) + "\n")
    settings = {**SETTINGS, "targets": ["intent", "none"], "target_kinds": {"none": "label"}}
    with pytest.raises(DataError, match="empty in all rows") as error:
        clew.train(tmp_path / "t.tsv", tmp_path / "run", **settings)
    assert error.value.column == "none"
