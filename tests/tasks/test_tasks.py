"""Every task, from a person's file to a model that beats the naive baseline, predicts, and streams what it predicts."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from small_runs import FAST, RUNS

import clew
from clew.stream import Session
from clew.tasks.train import read_for

SCORES = {
    "classify": {"accuracy", "macro_f1", "nll", "auc"},
    "regress": {"rmse", "mae", "r2"},
    "tag": {"accuracy", "f1", "precision", "recall"},
    "generate": {"nats", "bits", "perplexity"},
    "series": {"accuracy", "macro_f1", "nll", "auc"},
    "steps": {"accuracy"},
    "row": {"accuracy", "macro_f1", "nll"},
}
BASELINES = {
    "classify": {"majority"},
    "regress": {"mean"},
    "tag": {"majority", "by_word"},
    "generate": {"unigram"},
    "series": {"majority"},
    "steps": {"majority"},
    "row": {"majority"},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_holds_what_it_promises_and_beats_the_baseline(runs: dict[str, Path], name: str) -> None:
    metrics = json.loads((runs[name] / "metrics.json").read_text())
    assert set(metrics["metrics"]) == SCORES[name]
    assert set(metrics["baseline"]) == BASELINES[name]
    ours, naive = metrics["metrics"], next(iter(metrics["baseline"].values()))
    first = next(iter(SCORES[name] & {"accuracy", "rmse", "nats"}))
    better = ours[first] > naive[first] if first == "accuracy" else ours[first] < naive[first]
    assert better, (ours, naive)
    assert metrics["parts"]["train"] > 0
    assert metrics["data"]["rows"] > 0


@pytest.mark.parametrize("name", RUNS)
def test_evaluating_gives_the_same_kind_of_scores(runs: dict[str, Path], files: dict[str, Path], name: str) -> None:
    result = clew.evaluate(runs[name], files[RUNS[name][0]])
    assert set(result) == {"task", "metrics", "baseline", "n"}
    assert set(result["metrics"]) == SCORES[name]
    assert set(result["baseline"]) == BASELINES[name]


@pytest.mark.parametrize("name", ["classify", "series", "row"])
def test_predictions_have_probabilities(runs: dict[str, Path], files: dict[str, Path], run_clew, name: str) -> None:
    said = run_clew("predict", runs[name], files[RUNS[name][0]])
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert said.code == 0
    for row in rows:
        shares = {key[2:-1]: float(value) for key, value in row.items() if key.startswith("p(")}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
        answer = [row[key] for key in row if key not in ("row", "probability") and not key.startswith("p(")]
        assert answer == [max(shares, key=lambda label: shares[label])]
    assert [int(row["row"]) for row in rows] == list(read_for(runs[name], files[RUNS[name][0]]).lines)


def test_tags_come_a_word_a_row(runs: dict[str, Path], files: dict[str, Path], run_clew, tmp_path: Path) -> None:
    said = run_clew("predict", runs["tag"], files["words"], "--out", tmp_path / "tags.jsonl")
    assert said.code == 0
    rows = [json.loads(line) for line in (tmp_path / "tags.jsonl").read_text().splitlines()]
    words = [line.split("\t")[0] for line in files["words"].read_text().splitlines() if line]
    assert [row["word"] for row in rows] == words
    assert rows[0].keys() == {"sequence", "step", "word", "2", "probability"}


@pytest.mark.parametrize("name", ["classify", "regress", "series", "steps", "row", "tag"])
def test_a_stream_says_what_a_prediction_says(runs: dict[str, Path], files: dict[str, Path], name: str) -> None:
    """Step by step, or in any chunks, with a reset before each record: the numbers of the whole pass."""
    trained = clew.load(runs[name])
    records = trained.source.read(read_for(runs[name], files[RUNS[name][0]]))[:12]
    session = Session(trained)
    for raw in records:
        session.reset()
        whole = trained.outputs([trained.source.encode(raw)])[0]
        pieces = raw.split() if isinstance(raw, str) else [[word] for word in raw] if name == "tag" else raw.tolist()
        answers = [session.push(piece) for piece in pieces]
        if trained.answers.aligned:
            said = [answer[trained.answers.column][0] for answer in answers]
            assert said == [trained.answers.said(step)[0] for step in whole]
            sure = [answer["probability"][0] for answer in answers]
            np.testing.assert_allclose(sure, [trained.answers.said(step)[1] for step in whole], rtol=1e-5)
        else:
            expected = dict(zip(trained.answers.columns(), trained.answers.said(whole), strict=True))
            assert answers[-1].keys() == expected.keys()
            for key, value in expected.items():
                assert answers[-1][key] == (
                    value if isinstance(value, str) else pytest.approx(value, rel=1e-4, abs=1e-6)
                )


def test_a_stream_of_text_foresees_what_the_whole_pass_foresees(runs: dict[str, Path], run_clew) -> None:
    writer = clew.load(runs["generate"])
    text = "the dog sat on the mat. and the cat\nsat on the log."
    lines = [text[:7], text[7:8], text[8:30], text[30:]]
    said = run_clew("stream", runs["generate"], feed="".join(json.dumps(line) + "\n" for line in lines))
    answers = [json.loads(line) for line in said.out.splitlines()]
    assert [answer["units"] for answer in answers] == [len(line) for line in lines]
    streamed = sum(answer["nats"] * answer["units"] for answer in answers)
    example = writer.example(_document(text))
    assert streamed / len(text) == pytest.approx(writer.nats([example]).result()["nats"], rel=1e-5)
    raw = run_clew("stream", runs["generate"], feed=text + "\n")
    again = [json.loads(line) for line in raw.out.splitlines()]
    assert sum(a["nats"] * a["units"] for a in again[:2]) > 0
    assert again[-1]["step"] == len(text) + 1, "the end of a raw line is part of the text"


def _document(text: str):
    from clew.tasks.generate import Document

    return Document(text, False, "", 1)


def test_text_is_written_as_seed_and_temperature_say(runs: dict[str, Path], run_clew) -> None:
    def written(*options: object) -> str:
        said = run_clew("generate", runs["generate"], "--prompt", "the ", "--length", 60, *options)
        assert said.code == 0
        return said.out

    assert written("--seed", 1) == written("--seed", 1)
    assert written("--seed", 1) != written("--seed", 2)
    assert written("--temperature", 0) == written("--temperature", 0, "--seed", 5)
    assert written("--temperature", 0) == written("--top-k", 1, "--seed", 3)
    assert written("--temperature", 0) == written("--min-p", 0.999, "--seed", 3) != written("--seed", 3)
    assert len(written()) == len("the ") + 60 + 1
    as_json = json.loads(written("--json"))
    assert as_json["prompt"] + as_json["text"] == written()[:-1]


def test_what_writes_no_text_says_so(runs: dict[str, Path], run_clew) -> None:
    said = run_clew("generate", runs["classify"])
    assert said.code == 2
    assert "hint: train one with --task generate" in said.err


def test_a_bidirectional_model_classifies_and_does_not_stream(files: dict[str, Path], tmp_path: Path, run_clew) -> None:
    for pooling in ("last", "mean", "max", "sum", "attention"):
        options = [
            "--target",
            "label",
            "--set",
            "bidirectional=true",
            "--set",
            "steps=4",
            "--set",
            f"pooling={pooling}",
        ]
        run = tmp_path / pooling
        assert run_clew("train", files["reviews"], "--out", run, *options).code == 0
        assert run_clew("predict", run, files["reviews"]).code == 0
        said = run_clew("stream", run, feed="a film\n")
        assert said.code == 2
        assert "needs the future" in said.err


def test_windows_and_whole_sequences_score_alike(files: dict[str, Path], tmp_path: Path) -> None:
    """Long texts may be learned from in windows; what is learned predicts and streams all the same."""
    settings = {"target": "label", "inputs": ["text"], "steps": 80, "window": 4, "batch": 4, "width": 12, "lr": 2e-2}
    result = clew.train(files["reviews"], tmp_path / "run", progress=False, **settings)
    assert result["metrics"]["accuracy"] > result["baseline"]["majority"]["accuracy"]


@pytest.mark.parametrize("unit", ["byte", "character", "word", "piece", "bpe"])
def test_text_of_every_unit_can_be_written(files: dict[str, Path], tmp_path: Path, run_clew, unit: str) -> None:
    pytest.importorskip("tokenizers", reason="bpe needs tokenizers, of the extra text") if unit == "bpe" else None
    settings = {"source_unit": unit, "steps": 5, "width": 8, "batch": 2, "window": 16, "vocabulary": 300}
    result = clew.train(files["story"], tmp_path / "run", progress=False, **settings)
    assert np.isfinite(result["metrics"]["nats"])
    said = run_clew("generate", tmp_path / "run", "--prompt", "the cat", "--length", 20)
    assert said.code == 0
    assert said.out.startswith("the cat")


def test_a_task_is_guessed_from_the_file(files: dict[str, Path], tmp_path: Path, run_clew) -> None:
    for file, task in (("reviews", "classify"), ("words", "tag"), ("story", "generate"), ("waves", "classify")):
        said = run_clew("train", files[file], "--out", tmp_path / file, "--set", "steps=2", "--json")
        assert said.code == 0, said.err
        assert f"task: {task}, as " in said.err
        assert json.loads(said.out)["task"] == task


def test_samples_train(tmp_path: Path, run_clew) -> None:
    for sample, options in (
        ("digits", ["--task", "classify", "--target", "digit", "--set", "channels=8"]),
        ("proverbs", ["--set", "width=8", "--set", "validate_every=3"]),
    ):
        said = run_clew("train", f"sample:{sample}", "--out", tmp_path / sample, "--set", "steps=3", *options)
        assert said.code == 0, said.err


def test_rows_of_one_group_are_one_sequence(tmp_path: Path) -> None:
    rows = ["id,x,label"]
    for i in range(60):
        kind = "up" if i % 2 else "down"
        rows += [f"s{i},{t if kind == 'up' else -t},{kind}" for t in range(3 + i % 4)]
    (tmp_path / "long.csv").write_text("\n".join(rows) + "\n")
    settings = {"task": "classify", "target": "label", "inputs": ["x"], "group": "id", "steps": 60, "lr": 2e-2}
    result = clew.train(tmp_path / "long.csv", tmp_path / "run", progress=False, width=8, **settings)
    assert sum(result["parts"].values()) == 60
    assert result["metrics"]["accuracy"] == 1.0


def test_parts_from_sources_of_their_own(files: dict[str, Path], tmp_path: Path) -> None:
    """A source named in the recipe is looked for beside the training source too; what it shares is counted."""
    lines = files["reviews"].read_text().splitlines()
    (tmp_path / "a.csv").write_text("\n".join(lines[:90]) + "\n")
    (tmp_path / "b.csv").write_text("\n".join([lines[0], *lines[60:]]) + "\n")
    settings = {"target": "label", "inputs": ["text"], "steps": 3, "width": 8, "test": "b.csv"}
    result = clew.train(tmp_path / "a.csv", tmp_path / "run", progress=False, **settings)
    assert result["n"] == result["parts"]["test"] == len(lines) - 60
    assert 0 < result["test_seen_in_training"] <= 30
    settings["test"] = "stars=3"
    by_value = clew.train(tmp_path / "a.csv", tmp_path / "other", progress=False, **settings)
    assert by_value["n"] == sum(line.split(",")[1] == "3" for line in lines[:90])


def test_documents_are_kept_apart(tmp_path: Path) -> None:
    """Many texts are parted whole; each begins in the initial state, ends, and is scored by itself."""
    folder = tmp_path / "letters"
    folder.mkdir()
    for i in range(30):
        (folder / f"{i:02}.txt").write_text(
            f"Dear {'Ada' if i % 2 else 'Bob'}, here is letter {i}. " + "Yours. " * (i % 5)
        )
    settings = {"steps": 8, "width": 8, "batch": 2, "window": 16}
    result = clew.train(folder, tmp_path / "run", progress=False, **settings)
    assert result["parts"] == {"train": 24, "valid": 3, "test": 3}
    writer = clew.load(tmp_path / "run")
    texts = [file.read_text() for file in sorted(folder.iterdir())]
    examples = [writer.example(_document(text)._replace(whole=True)) for text in texts]
    assert all(
        e.x[0, 0] == 0 and e.target[-1] == 0 and len(e.x) == len(t) + 1 for e, t in zip(examples, texts, strict=True)
    )
    together, alone = writer.nats(examples).result()["nats"], [writer.nats([e]) for e in examples]
    assert together == pytest.approx(sum(a.result()["nats"] * a.n for a in alone) / sum(a.n for a in alone), rel=1e-6)


def test_documents_of_a_column_are_held_out(tmp_path: Path) -> None:
    """What the held-out ones share with the training part is counted, as for every task."""
    lines = [
        json.dumps({"text": f"verse {i % 50} of the song", "part": "late" if i >= 40 else "early"}) for i in range(60)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    settings = {"task": "generate", "inputs": ["text"], "test": "part=late", "steps": 2}
    result = clew.train(tmp_path / "a.jsonl", tmp_path / "run", **{**FAST, **settings})
    assert result["parts"]["test"] == 20
    assert 0 < result["test_seen_in_training"] <= 10


@pytest.mark.parametrize("name", ["classify", "tag", "generate"])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    """Bit for bit, for buckets and for lanes."""
    from safetensors.numpy import load_file

    file, settings = RUNS[name]
    settings = {**FAST, **settings, "steps": 20, "dropout": 0.2, "checkpoint_every": 1}
    clew.train(files[file], tmp_path / "whole", **settings)
    clew.train(files[file], tmp_path / "again", **settings)
    for kept in sorted((tmp_path / "again" / "checkpoints").iterdir())[-1:]:
        kept.unlink()
    (tmp_path / "again" / "model.safetensors").unlink()
    clew.train(files[file], tmp_path / "again", resume=True, progress=False)
    whole, again = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "again"))
    assert whole.keys() == again.keys()
    assert all(np.array_equal(whole[key], again[key]) for key in whole)


def test_classes_that_are_rare_can_count_for_more(tmp_path: Path) -> None:
    rows = ["text,label", *(f"plain {i % 70},{'common' if i % 13 else 'rare'}" for i in range(260))]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    runs = {}
    for how in ("none", "balanced"):
        settings = {"target": "label", "class_weights": how, "steps": 40, "width": 4, "lr": 1e-2}
        clew.train(tmp_path / "a.csv", tmp_path / how, progress=False, **settings)
        said = clew.load(tmp_path / how).predictions(read_for(tmp_path / how, tmp_path / "a.csv"))
        runs[how] = np.mean([row[said.columns.index("p(rare)")] for row in said.rows])
    assert runs["balanced"] > 1.5 * runs["none"]
