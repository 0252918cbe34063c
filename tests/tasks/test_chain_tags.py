"""Tags that are chosen together: from a file to a model, and what it cannot do."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import pytest
from small_runs import FAST

import clew
from clew.errors import ConfigError, NotCausalError


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words that say little by themselves: an O is followed by two B, and those by an O again. Only what a tag is
    after the others tells."""
    r, sentences = random.Random(0), []
    for _ in range(150):
        tags = (["O", "B-X", "I-X"] * 4)[r.randint(0, 2) :]
        words = [tag[0].lower() if r.random() < 0.5 else "what" for tag in tags]
        sentences.append("\n".join(f"{word}\t{tag}" for word, tag in zip(words, tags, strict=True)))
    file = tmp_path_factory.mktemp("hidden") / "hidden.conll"
    file.write_text("\n\n".join(sentences) + "\n")
    return file


SETTINGS = {**FAST, "task": "tag", "source_unit": "word", "cell": "mingru", "width": 4, "steps": 60}


@pytest.fixture(scope="module")
def run(hidden: Path) -> Path:
    clew.train(hidden, hidden.parent / "run", crf=True, **SETTINGS)
    return hidden.parent / "run"


def test_what_follows_what_is_learned(run: Path, hidden: Path, tmp_path: Path) -> None:
    chain = json.loads((run / "metrics.json").read_text())
    plain = clew.train(hidden, tmp_path / "plain", **SETTINGS)
    assert chain["metrics"].keys() == plain["metrics"].keys() == {"accuracy", "f1", "precision", "recall"}
    assert chain["metrics"]["f1"] > plain["metrics"]["f1"] + 0.1


def test_predictions(run: Path, hidden: Path, run_clew) -> None:
    said = run_clew("predict", run, hidden)
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert said.code == 0
    assert set(rows[0]) == {"sequence", "step", "word", "2", "probability"}
    assert {row["2"] for row in rows} <= {"O", "B-X", "I-X"}
    assert all(0 < float(row["probability"]) <= 1 for row in rows)


def test_what_it_cannot_do_is_said(run: Path, hidden: Path, tmp_path: Path, run_clew) -> None:
    said = run_clew("stream", run, feed="what b\n")
    assert said.code == 2
    assert "hint: train one with model.crf = false" in said.err
    for setting in ({"label_smoothing": 0.1}, {"class_weights": "balanced"}, {"window": 8}, {"supervise": "last"}):
        with pytest.raises(ConfigError, match="says nothing to tags that are chosen together"):
            clew.train(hidden, tmp_path / "run", crf=True, **SETTINGS, **setting)
    with pytest.raises(NotCausalError, match="together"):
        clew.load(run).model.init_state(1)


def test_its_own_recipe_repeats_it(run: Path, hidden: Path, tmp_path: Path) -> None:
    """And what was begun goes on."""
    clew.train(hidden, tmp_path / "again", recipe=run / "recipe.toml", progress=False)
    ours, theirs = (
        json.loads((folder / "metrics.json").read_text())["metrics"] for folder in (run, tmp_path / "again")
    )
    assert ours == theirs
    clew.train(hidden, tmp_path / "again", resume=True, progress=False)
