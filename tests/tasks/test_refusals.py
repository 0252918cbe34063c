"""What cannot be done is said before training, and nothing that was asked for is left out in silence."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from small_runs import FAST, RUNS

import clew
from clew.errors import ConfigError, DataError, NotCausalError


def test_a_label_of_the_test_source_that_training_lacks_stops_before_training(tmp_path: Path, run_clew) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"word {i},{'ab'[i % 2]}\n" for i in range(40)))
    (tmp_path / "b.csv").write_text("text,label\nword 5,a\nword 6,c\n")
    said = run_clew("train", tmp_path / "a.csv", "--out", tmp_path / "run", "--set", "test=b.csv")
    assert said.code == 2
    assert "b.csv, row 3, column 'label': the label 'c' does not occur in the training part" in said.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", range(8))
def test_the_only_sentence_with_a_tag_is_trained_on(tmp_path: Path, seed: int) -> None:
    sentences = [f"w{i}\tA\nis\tB" for i in range(40)]
    sentences[17] = "odd\tRARE\nis\tB"
    (tmp_path / "a.conll").write_text("\n\n".join(sentences) + "\n")
    clew.train(tmp_path / "a.conll", tmp_path / "run", seed=seed, **{**FAST, "steps": 1})
    assert "RARE" in clew.load(tmp_path / "run").answers.names


def test_both_columns_that_part_the_rows_are_hidden(tmp_path: Path) -> None:
    r = random.Random(0)
    rows = [f"{r.random():.3f},{r.random():.3f},{i % 5},{i % 7},{'xy'[i % 2]}" for i in range(140)]
    (tmp_path / "a.csv").write_text("a,b,fold,part,label\n" + "\n".join(rows) + "\n")
    settings = {"task": "classify", "target": "label", "valid": "fold=0", "test": "part=1", "steps": 1}
    clew.train(tmp_path / "a.csv", tmp_path / "run", **{**FAST, **settings})
    assert clew.load(tmp_path / "run").source.columns == ["a", "b"]


@pytest.mark.parametrize(
    ("run", "settings"),
    [
        ("classify", {"horizon": 3}),
        ("tag", {"pooling": "max"}),
        ("classify", {"crf": True}),
        ("regress", {"class_weights": "balanced"}),
        ("generate", {"group": "text"}),
        ("generate", {"pooling": "attention"}),
    ],
)
def test_a_key_that_says_nothing_to_the_task(files, tmp_path: Path, run: str, settings: dict) -> None:
    file, own = RUNS[run]
    with pytest.raises(ConfigError, match=f"{next(iter(settings))} says nothing to the task '{run}'"):
        clew.train(files[file], tmp_path / "run", **{**FAST, **own, **settings})


@pytest.mark.parametrize("settings", [{"group": "state"}, {"bidirectional": True}, {"stride": 4, "window": 8}])
def test_a_key_that_says_nothing_to_a_forecast(series_file: Path, tmp_path: Path, settings: dict) -> None:
    with pytest.raises(ConfigError, match="says nothing to the task 'forecast'"):
        clew.train(series_file, tmp_path / "run", target="load", progress=False, **settings)


def test_a_text_cannot_be_written_from_its_end(files, tmp_path: Path) -> None:
    with pytest.raises(NotCausalError):
        clew.train(files["story"], tmp_path / "run", bidirectional=True, progress=False)


def test_words_a_row_are_not_taken_for_sentences(tmp_path: Path) -> None:
    rows = [f"{i // 4},w{i % 6},{'NV'[i % 2]}" for i in range(80)]
    (tmp_path / "a.csv").write_text("sentence,word,tag\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError, match="a group joins rows of numbers"):
        clew.train(tmp_path / "a.csv", tmp_path / "run", task="tag", inputs=["word"], target="tag", group="sentence")


def test_a_season_is_no_longer_than_the_window(tmp_path: Path) -> None:
    """Else the model would learn to correct what it is never given."""
    y = 5 + np.sin(np.arange(288 * 8) * 2 * np.pi / 288)
    (tmp_path / "day.csv").write_text("y\n" + "\n".join(f"{v:.5f}" for v in y) + "\n")
    settings = {"season": 288, "anchor": "season", "steps": 1, "width": 4, "progress": False, "horizon": 12}
    clew.train(tmp_path / "day.csv", tmp_path / "run", **settings)
    plan = clew.load(tmp_path / "run").plan
    assert (plan.lag, plan.window) == (288, 288 + 24)
    with pytest.raises(ConfigError, match="a window of 100 steps is no longer than the season of 288"):
        clew.train(tmp_path / "day.csv", tmp_path / "other", window=100, **settings)


def test_a_gap_in_a_column_that_nobody_asked_for(tmp_path: Path, run_clew) -> None:
    rows = "".join(f"{i},{'' if i == 7 else i * 0.1:},{10 + i % 5}\n" for i in range(120))
    (tmp_path / "a.csv").write_text("hour,temp,sales\n" + rows)
    assert run_clew("train", tmp_path / "a.csv", "--out", tmp_path / "run", "--set", "steps=1").code == 0
    lines = [f'{{"review": "the {i} film", "note": null, "verdict": "{"ab"[i % 2]}"}}' for i in range(60)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    said = run_clew("train", tmp_path / "a.jsonl", "--out", tmp_path / "b", "--set", "steps=1", "--target", "verdict")
    assert said.code == 0, said.err
    assert "target: 'verdict'; input: 'review'" in said.err


def test_a_file_without_a_header_is_read_without_one_later_too(tmp_path: Path, run_clew) -> None:
    asks = [f"how do i {['pay', 'leave'][i % 2]} {i}" for i in range(60)]
    (tmp_path / "a.csv").write_text("".join(f"{ask},{ask.split()[3]}\n" for ask in asks))
    options = ["--set", "steps=1", "--set", "header=no", "--input", "1", "--target", "2"]
    assert run_clew("train", tmp_path / "a.csv", "--out", tmp_path / "run", *options).code == 0
    (tmp_path / "b.csv").write_text("".join(f"where is it {i}\n" for i in range(5)))
    said = run_clew("predict", tmp_path / "run", tmp_path / "b.csv")
    assert said.code == 0, said.err
    assert len(said.out.splitlines()) == 1 + 5


def test_a_stream_of_letters_says_what_a_prediction_says(tmp_path: Path, run_clew) -> None:
    """The end of a line is no letter of a molecule."""
    import json

    r = random.Random(0)
    texts = ["".join(r.choice("CON=") for _ in range(r.randint(2, 9))) for _ in range(60)]
    (tmp_path / "a.csv").write_text("smiles,y\n" + "".join(f"{t},{t.count('O') + 0.5}\n" for t in texts))
    settings = {"task": "regress", "inputs": ["smiles"], "target": "y", "steps": 5, "source_unit": "character"}
    clew.train(tmp_path / "a.csv", tmp_path / "run", **{**FAST, **settings})
    (tmp_path / "one.csv").write_text("smiles\nCCO\n")
    offline = float(run_clew("predict", tmp_path / "run", tmp_path / "one.csv").out.splitlines()[1].split(",")[1])
    for line in ("CCO\n", "CCO\r\n", "CCO", '"CCO"\n'):
        streamed = json.loads(run_clew("stream", tmp_path / "run", feed=line).out)
        assert streamed["step"] == 3
        assert streamed["y"] == pytest.approx(offline, rel=1e-5)


@pytest.mark.parametrize("number", ["1e400", "1" + "0" * 400, "-1" + "0" * 309])
def test_numbers_beyond_all_bounds(runs, number: str, run_clew) -> None:
    said = run_clew("stream", runs["row"], feed=f"[{number}, 1, 1]\n")
    assert said.code == 2
    assert "stdin, row 1" in said.err
