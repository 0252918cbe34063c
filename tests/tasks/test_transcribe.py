"""Transcribe: from a list of sounds to a model that writes down what is in them, whole and as a stream."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import FAST

import clew
from clew import config
from clew.decode.ctc import best_path
from clew.errors import ConfigError, DataError, NotCausalError, RunError
from clew.tasks import guess
from clew.tasks.records import Record
from clew.tasks.train import read_for

soundfile = pytest.importorskip("soundfile")
RATE, PITCH = 4000, {"a": 300, "b": 700, "c": 1300}
SETTINGS: dict[str, Any] = {**FAST, "task": "transcribe", "width": 24, "layers": 1, "steps": 70, "lr": 1e-2, "mels": 16}


def sung(text: str, seed: int) -> np.ndarray:
    """A tone for each letter, with noise and pauses."""
    r, parts = random.Random(seed), [np.zeros(150)]
    for letter in text:
        t = np.arange(300 + r.randint(0, 80)) / RATE
        parts += [0.5 * np.sin(2 * np.pi * PITCH[letter] * t) * np.hanning(len(t)), np.zeros(r.randint(60, 120))]
    samples = np.concatenate(parts)
    return (samples + np.random.default_rng(seed).normal(0, 0.01, len(samples))).astype(np.float32)


def texts(n: int, seed: int) -> list[str]:
    r = random.Random(seed)
    return ["".join(r.choice("abc") for _ in range(r.randint(1, 4))) for _ in range(n)]


def write(folder: Path, said: Sequence[str], name: str = "list.csv", seed: int = 0) -> Path:
    for i, text in enumerate(said):
        soundfile.write(folder / f"{Path(name).stem}{i}.wav", sung(text, seed + i), RATE)
    rows = [f"{Path(name).stem}{i}.wav,{text}" for i, text in enumerate(said)]
    (folder / name).write_text("path,text\n" + "\n".join(rows) + "\n")
    return folder / name


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("songs")
    clew.train(write(folder, texts(150, 0)), folder / "run", **SETTINGS)
    return folder / "run"


def test_it_hears_what_nobody_aligned(run: Path) -> None:
    found = json.loads((run / "metrics.json").read_text())
    assert found["metrics"].keys() == found["baseline"]["commonest"].keys() == {"wer", "cer", "exact"}
    assert found["metrics"]["cer"] < 0.2 < found["baseline"]["commonest"]["cer"]
    assert guess.task_of(read_for(run, run.parent / "list.csv"), "", [])[0] == "transcribe"


def test_a_stream_of_samples_says_what_the_whole_says(run: Path) -> None:
    """However they are cut, the pieces of text are the best path of the whole."""
    trained = clew.load(run)
    for seed, text in enumerate(texts(8, 5)):
        samples, r = sung(text, 900 + seed), random.Random(seed)
        whole = trained.outputs([trained.source.encode(trained.source.front.of(_sound(samples)))])[0]
        session, said, steps, at = clew.stream.Session(trained), "", 0, 0
        while at < len(samples):
            n = r.randint(1, 500)
            answer = session.push(samples[at : at + n].tolist())
            said, steps, at = said + answer.get("text", ""), steps + answer.get("steps", 0), at + n
        assert steps == len(whole)
        assert said == trained.target.decode(best_path(whole, 0))


def _sound(samples: np.ndarray) -> Any:
    from clew.data.audio import Sound

    return Sound(samples, RATE)


def test_predictions_of_lists_files_and_folders(run: Path, tmp_path: Path, run_clew) -> None:
    said = texts(6, 9)
    file = write(tmp_path, said, "new.csv", 500)
    found = run_clew("predict", run, file, "--nbest", 3, "--beam", 6)
    assert found.code == 0, found.err
    rows = list(csv.DictReader(io.StringIO(found.out)))
    assert list(rows[0]) == ["row", "rank", "text", "score", "nats"]
    best = [row["text"] for row in rows if row["rank"] == "1"]
    assert np.mean([a == b for a, b in zip(best, said, strict=True)]) > 0.5
    file.unlink()
    folder = run_clew("predict", run, tmp_path, "--beam", 6, "--json")
    assert [row[2] for row in json.loads(folder.out)["rows"]] == best
    alone = run_clew("predict", run, tmp_path / "new2.wav", "--beam", 6, "--json")
    assert json.loads(alone.out)["rows"][0][2] == best[2]


def test_a_language_model_changes_what_is_heard(run: Path, tmp_path: Path) -> None:
    """One that has read nothing but "cc" weighs more than the ears, where it is let."""
    (tmp_path / "texts.csv").write_text("text\n" + "\n".join(["ccc", "abc"] + ["cc"] * 60) + "\n")
    settings = {**FAST, "task": "generate", "source_unit": "character", "steps": 60, "window": 8}
    clew.train(tmp_path / "texts.csv", tmp_path / "language", **settings)
    trained = clew.load(run)
    record = Record(trained.source.front.of(_sound(sung("ab", 3))), "ab", "here", 1)

    def heard(**how: Any) -> str:
        return trained.searching(beam=8, **how).write([record])[0]

    language = str(tmp_path / "language")
    assert heard() == heard(language=language, language_weight=0.0) == "ab"
    assert set(heard(language=language, language_weight=10.0)) <= {"c"}
    assert len(heard(unit_bonus=9.0)) > 2
    with pytest.raises(ConfigError, match="does not write characters"):
        heard(language=str(run))


def test_a_language_model_is_looked_at_before_training(run: Path, tmp_path: Path) -> None:
    file, recipe = run.parent / "list.csv", config.build({"decode": {"language": str(tmp_path / "none")}})
    with pytest.raises(RunError, match="no such run folder"):
        clew.train(file, tmp_path / "run", recipe=recipe, **SETTINGS)
    assert not (tmp_path / "run").exists()


def test_a_letter_that_occurs_once(tmp_path: Path) -> None:
    """Wherever it lands; what training does not know is an error where it is scored, and nothing to learn."""
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        file = write(folder, texts(30, seed))
        file.write_text(file.read_text().replace("list3.wav,", "list3.wav,z"))
        found = clew.train(file, folder / "run", **{**SETTINGS, "steps": 2, "seed": seed})
        assert found["metrics"]["cer"] > 0
    clew.train(file, folder / "common", **{**SETTINGS, "steps": 2, "min_count": 2})
    assert clew.load(folder / "common").target.size == 2 + 3


def test_on_the_command_line(run: Path, tmp_path: Path, run_clew) -> None:
    said = run_clew("train", run.parent / "list.csv", "--out", tmp_path / "run", "--set", "steps=2", "--set", "mels=8")
    assert said.code == 0, said.err
    assert "transcribe: 15 texts held out" in said.out
    again = run_clew(
        "train", run.parent / "list.csv", "--recipe", tmp_path / "run" / "recipe.toml", "--out", tmp_path / "b"
    )
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    "change",
    [
        lambda plan: plan.pop("column"),
        lambda plan: plan["input"]["front"].update(rate=10**12),
        lambda plan: plan["input"]["front"].update(rate=1e999),
        lambda plan: plan["input"]["front"].update(mels=16.0),
        lambda plan: plan["input"]["front"].update(window=-1),
        lambda plan: plan["input"].update(front=3),
        lambda plan: plan.update(target={"unit": "word+character"}),
    ],
)
def test_a_damaged_plan(run: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any], run_clew) -> None:
    shutil.copytree(run, tmp_path / "run")
    plan = json.loads((run / "plan.json").read_text())
    change(plan)
    (tmp_path / "run" / "plan.json").write_text(json.dumps(plan))
    said = run_clew("predict", tmp_path / "run", run.parent / "list.csv")
    assert said.code == 2
    assert "plan.json" in said.err


def test_sounds_have_classes_too(tmp_path: Path, run_clew) -> None:
    file = write(tmp_path, [letter for letter in "abc" for _ in range(20)])
    file.write_text(file.read_text().replace("text", "label"))
    said = run_clew("train", file, "--out", tmp_path / "run", "--set", "steps=40", "--set", "lr=0.02", "--json")
    assert said.code == 0, said.err
    assert "task: classify" in said.err
    assert json.loads(said.out)["metrics"]["accuracy"] > 0.8
    line = json.dumps({"samples": sung("b", 77).tolist()}) + "\n"
    heard = run_clew("stream", tmp_path / "run", feed=line)
    assert json.loads(heard.out)["label"] == "b"


def test_sounds_have_numbers_too(tmp_path: Path, run_clew) -> None:
    """How high a tone is: guessed from the file, and nearer than the mean."""
    rows = ["path,pitch"]
    for i in range(60):
        soundfile.write(tmp_path / f"{i}.wav", sung("abc"[i % 3], i), RATE)
        rows.append(f"{i}.wav,{PITCH['abc'[i % 3]] / 1000 + 1e-4 * i}")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    options = ["--target", "pitch", "--set", "steps=60", "--set", "lr=0.02", "--json"]
    said = run_clew("train", tmp_path / "list.csv", "--out", tmp_path / "run", *options)
    assert said.code == 0, said.err
    assert "task: regress, as" in said.err
    assert "holds sounds and numbers in 'pitch'" in said.err
    found = json.loads(said.out)
    assert found["metrics"]["rmse"] < 0.5 * found["baseline"]["mean"]["rmse"]


def test_series_of_numbers_are_written_down_too(tmp_path: Path, run_clew) -> None:
    """Whole, and step by step in a stream."""
    r, rows = random.Random(0), []
    for text in texts(150, 3):
        steps: list[list[float]] = []
        for letter in text:
            steps += [[r.gauss(float(letter == other), 0.1) for other in "abc"] for _ in range(r.randint(4, 6))]
            steps += [[r.gauss(0, 0.1) for _ in "abc"] for _ in range(2)]
        rows.append({"pen": [[round(v, 3) for v in step] for step in steps], "text": text})
    (tmp_path / "pens.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {name: value for name, value in SETTINGS.items() if name != "mels"}
    found = clew.train(tmp_path / "pens.jsonl", tmp_path / "run", **settings)
    assert found["metrics"]["cer"] < 0.3
    (best,) = clew.load(tmp_path / "run").searching(beam=1).write([Record(np.array(rows[0]["pen"]), "", "here", 1)])
    feed = "".join(json.dumps(step) + "\n" for step in rows[0]["pen"])
    said = run_clew("stream", tmp_path / "run", feed=feed)
    assert said.code == 0, said.err
    assert "".join(json.loads(line)["text"] for line in said.out.splitlines()) == best


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"samples": ["a"]}', "'a' is no number"),
        ("[0.1, 3.0]", "samples must lie between -1 and 1"),
        ("[[0.1], [0.2]]", "[0.1] is no number"),
        ('{"sound": [0.1]}', "expected samples"),
        ("0.5", "expected samples"),
    ],
)
def test_a_bad_line_of_a_stream(run: Path, line: str, says: str, run_clew) -> None:
    said = run_clew("stream", run, feed=line + "\n")
    assert said.code == 2
    assert said.err.startswith(f"clew: stdin, row 1: {says}")


def test_what_cannot_be_done_is_said(run: Path, tmp_path: Path) -> None:
    def refused(kind: type[Exception], says: str, file: Path, **settings: Any) -> None:
        with pytest.raises(kind, match=says):
            clew.train(file, tmp_path / "run", **{**SETTINGS, "steps": 1, **settings})

    file = run.parent / "list.csv"
    refused(DataError, "has no room in", file, subsample=40)
    refused(ConfigError, "cannot be written down in the unit 'byte'", file, target_unit="byte")
    refused(ConfigError, "unit_bonus says nothing to a search without", file, unit_bonus=1.0)
    refused(ConfigError, "pooling says nothing to the task 'transcribe'", file, pooling="max")
    (tmp_path / "texts.csv").write_text("a,b\n" + "".join(f"one {i},two {i}\n" for i in range(40)))
    refused(ConfigError, "texts are no numbers", tmp_path / "texts.csv", target="a", inputs=["b"])
    refused(ConfigError, "no tags of their own", file, task="tag", mels=40, target="text")
    (tmp_path / "gap.csv").write_text(f"path,text\n{run.parent}/list0.wav,\n{run.parent}/list1.wav,a\n")
    refused(DataError, "row 2, column 'text': the label is empty", tmp_path / "gap.csv")
    clew.train(file, tmp_path / "both", **{**SETTINGS, "steps": 1, "bidirectional": True})
    with pytest.raises(NotCausalError, match="cannot stream"):
        clew.stream.Session(clew.load(tmp_path / "both"))
