"""The verbs, used as in the README."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clew
from clew.config import build, load_recipe
from clew.errors import ClewError
from clew.ops import native
from clew.training.files import write_atomic

QUICK = ("--set", "steps=20", "--set", "validate_every=10", "--set", "width=6")


def test_train_a_file_with_no_other_option(series_file: Path, tmp_path: Path, monkeypatch, run_clew) -> None:
    monkeypatch.chdir(tmp_path)
    said = run_clew("train", series_file, *QUICK)
    assert said.code == 0
    assert "target: 'heat', the last numeric column of" in said.err
    assert "others that could be the target or an --input: load" in said.err
    assert re.search(r"(beats|does not beat) the best naive forecast", said.out)
    names = {path.name for path in (tmp_path / "runs" / "load").iterdir()}
    files = {
        "recipe.toml",
        "model.safetensors",
        "plan.json",
        "metrics.json",
        "log.jsonl",
        "checkpoints",
        "forecast.svg",
    }
    assert names == files


def test_json_is_one_line_and_what_the_run_keeps(series_file: Path, tmp_path: Path, run_clew) -> None:
    out = tmp_path / "run"
    said = run_clew("train", series_file, "--out", out, "--target", "load", "--cell", "gru", "--json", *QUICK)
    assert said.out.count("\n") == 1
    metrics = json.loads(said.out)
    assert metrics == json.loads((out / "metrics.json").read_text())
    wanted = {"task", "cell", "parameters", "metrics", "baseline", "seconds", "steps_per_second", "seed", "data"}
    assert wanted <= set(metrics)
    assert set(metrics["metrics"]) == {"mae", "rmse", "smape", "mase"}
    assert set(metrics["baseline"]) == {"seasonal_naive", "last_value"}
    assert set(metrics["data"]) == {"sha256", "rows"}
    assert metrics["baseline"]["seasonal_naive"]["mase"] == pytest.approx(1.0, abs=0.5)


def test_the_written_recipe_repeats_the_run(series_file: Path, tmp_path: Path, run_clew) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_clew("train", series_file, "--out", first, "--seed", "3", *QUICK).code == 0
    recipe = build(load_recipe(first / "recipe.toml"))
    assert 0 not in (recipe.data.season, recipe.data.horizon, recipe.train.window, recipe.train.threads)
    assert run_clew("train", "--recipe", first / "recipe.toml", "--out", second).code == 0
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def test_evaluate_and_predict(trained: Path, series_file: Path, tmp_path: Path, run_clew) -> None:
    result = json.loads(run_clew("evaluate", trained, series_file, series_file, "--json").out)
    assert set(result) == {"task", "metrics", "baseline", "n"}
    assert result["n"] == 2
    printed = run_clew("predict", trained, series_file).out
    assert run_clew("predict", trained, series_file, "--out", tmp_path / "f.csv").out == ""
    assert (tmp_path / "f.csv").read_text() == printed
    assert [line.split(",")[0] for line in printed.splitlines()] == ["step", "1", "2", "3", "4", "5"]
    forecast = json.loads(run_clew("predict", trained, series_file, "--json").out)["forecast"]
    np.testing.assert_allclose([float(line.split(",")[1]) for line in printed.splitlines()[1:]], forecast, rtol=1e-8)


def test_evaluate_holds_out_the_last_steps(trained: Path, series_file: Path, tmp_path: Path, run_clew) -> None:
    rows = series_file.read_text().splitlines()
    head = tmp_path / "head.csv"
    head.write_text("\n".join(rows[:-5]) + "\n")
    forecast = json.loads(run_clew("predict", trained, head, "--json").out)["forecast"]
    truth = [float(row.split(",")[1]) for row in rows[-5:]]
    mae = json.loads(run_clew("evaluate", trained, series_file, "--json").out)["metrics"]["mae"]
    assert mae == pytest.approx(np.abs(np.array(truth) - forecast).mean())


def test_an_iterative_forecast_goes_as_far_as_asked_and_a_direct_one_says_no(
    trained: Path, series_file, run_clew
) -> None:
    said = run_clew("predict", trained, series_file, "--horizon", "9")
    if trained.name == "iterative":
        assert len(said.out.splitlines()) == 10
    else:
        assert (said.code, said.err) == (2, "clew: the model forecasts 5 steps at once, not 9\n")


def test_parquet_and_several_series(series_file: Path, tmp_path: Path, run_clew) -> None:
    import polars as pl

    pl.read_csv(series_file).write_parquet(tmp_path / "b.parquet")
    said = run_clew(
        "train",
        series_file,
        tmp_path / "b.parquet",
        "--target",
        "load",
        "--input",
        "3",
        "--out",
        tmp_path / "r",
        "--json",
        *QUICK,
    )
    assert json.loads(said.out)["data"]["rows"] == 240
    assert clew.load(tmp_path / "r").plan.columns == ["load", "heat"]


@pytest.mark.parametrize("anchor", ["season", "last", "none"])
@pytest.mark.parametrize("mode", ["iterative", "direct"])
def test_every_anchor_trains_loads_and_predicts(
    series_file: Path, tmp_path: Path, run_clew, anchor: str, mode: str
) -> None:
    out = tmp_path / "run"
    options = ("--mode", mode, "--set", f"anchor={anchor}", "--input", "load", "--set", "layers=2", "--set", "norm=rms")
    assert run_clew("train", series_file, "--out", out, *options, *QUICK).code == 0
    assert len(run_clew("predict", out, series_file).out.splitlines()) == clew.load(out).plan.horizon + 1


def test_a_users_own_cell(series_file: Path, tmp_path: Path) -> None:
    class Mine(clew.cells.Elman):
        pass

    settings = {"cell": "mine", "steps": 10, "width": 4, "progress": False}
    clew.train(series_file, tmp_path / "run", cells={"mine": Mine}, **settings)
    assert isinstance(clew.load(tmp_path / "run", cells={"mine": Mine}).model.body.inner.layers[0], Mine)
    with pytest.raises(clew.ClewError, match="unknown cell 'mine'"):
        clew.load(tmp_path / "run")


def test_cells_and_doctor(run_clew) -> None:
    rows = json.loads(run_clew("cells", "--json").out)["cells"]
    assert [row["name"] for row in rows] == list(clew.cells.RECURRENCES)
    assert all(row["cite"] and row["parameters"] and row["state"] for row in rows)
    assert "lstm" in run_clew("cells").out
    assert json.loads(run_clew("doctor", "--json").out)["holds"]
    assert "all 7 laws hold" in run_clew("doctor").out


def test_doctor_says_what_a_missing_compiled_part_costs(run_clew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_native", None)
    said = run_clew("doctor")
    assert said.code == 0
    assert "compiled part: not built" in said.out
    assert "install a C++ compiler" in said.out
    assert json.loads(run_clew("doctor", "--json").out)["compiled"] is None


def test_help_and_version(run_clew) -> None:
    assert run_clew("--version").out.strip() == clew.__version__
    for verb in ("train", "evaluate", "predict", "stream", "cells", "doctor"):
        said = run_clew(verb, "--help")
        assert said.code == 0
        assert "Usage: clew" in said.out


def test_an_interrupted_run_resumes_to_the_same_bits(series_file: Path, tmp_path: Path, run_clew) -> None:
    """Ctrl-C in a real process: exit 130, a checkpoint, and the same weights as without it in the end."""
    options = [
        "--target",
        "load",
        "--set",
        "steps=300",
        "--set",
        "validate_every=10",
        "--set",
        "patience=0",
        "--set",
        "width=6",
    ]
    command = [sys.executable, "-m", "clew", "train", str(series_file), "--out", str(tmp_path / "cut"), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})
    log, deadline = tmp_path / "cut" / "log.jsonl", time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= 2) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 130, talk
    assert "go on with: clew train --out" in talk
    assert run_clew("train", "--out", tmp_path / "cut", "--resume").code == 0
    assert run_clew("train", series_file, "--out", tmp_path / "whole", *options).code == 0
    cut, whole = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("cut", "whole"))
    assert cut == whole


def test_a_stream_is_left_without_a_word(trained: Path) -> None:
    """Ctrl-C in a real process, after the first answer: exit 130, what was answered stays said."""
    command = [sys.executable, "-m", "clew", "stream", str(trained)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write("[1.0, 2.0]\n")
    process.stdin.flush()
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=60)
    assert json.loads(first)["step"] == 1
    assert (process.returncode, talk) == (130, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stream_is_kept_whatever_ends_it(number: int, trained: Path, tmp_path: Path, run_clew) -> None:
    lines = [f"[{t / 7}, {t / 9}]\n" for t in range(12)]
    whole = [json.loads(line) for line in run_clew("stream", trained, feed="".join(lines)).out.splitlines()]
    file = tmp_path / "stream.snapshot"
    command = [sys.executable, "-m", "clew", "stream", str(trained), "--state", str(file)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:
        process.stdin.writelines(lines[:3])
        process.stdin.flush()
        said = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    part = run_clew("stream", trained, "--state", file, feed="".join(lines[3:7]) + "what\n")  # a mistake ends it too
    assert (part.code, "goes on after step 3" in part.err) == (2, True)
    rest = run_clew("stream", trained, "--state", file, feed="".join(lines[7:]))
    said += [json.loads(line) for line in (part.out + rest.out).splitlines()]
    assert said == whole


def test_what_was_not_answered_is_not_kept(trained: Path, tmp_path: Path, run_clew, monkeypatch) -> None:
    """Nobody reads the second answer; and a signal that comes while all is saved ends nothing halfway."""
    from clew.cli import stream

    file, said = tmp_path / "stream.snapshot", []

    def broken(answer: Any) -> None:
        if said:
            raise ClewError("nobody reads")
        said.append(answer)

    with monkeypatch.context() as patch:
        patch.setattr(stream, "print_json", broken)
        run_clew("stream", trained, "--state", file, feed="[1.0, 2.0]\n[3.0, 4.0]\n")
    session = clew.stream.Session(clew.load(trained))
    session.restore(file)
    assert session.steps == 1

    def told_twice(file: Path, content: bytes) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        write_atomic(file, content)

    kept = stream.Kept(session, file)
    monkeypatch.setattr(stream, "write_atomic", told_twice)
    with pytest.raises(KeyboardInterrupt), kept, kept.answering():
        session.push([5.0, 6.0])
    session.restore(file)
    assert session.steps == 2


def test_a_state_that_cannot_be_kept_or_gone_on_with(trained: Path, tmp_path: Path, run_clew) -> None:
    (tmp_path / "other").write_bytes(b"no snapshot")
    for file, what in (("none/a", "cannot be written"), ("other", "damaged"), (".", "cannot be read")):
        said = run_clew("stream", trained, "--state", tmp_path / file, feed="[1.0, 2.0]\n")
        assert (said.code, said.out) == (2, ""), file
        assert what in said.err
    assert (tmp_path / "other").read_bytes() == b"no snapshot"


def test_a_stream_that_keeps_going(trained: Path, run_clew) -> None:
    said = run_clew(
        "stream", trained, "--keep-going", feed="[1.0, 2.0]\n[1.0]\nx\n[NaN, 1]\n" + "[" * 200_000 + "\n[1.0, 2.0]\n"
    )
    answers = [json.loads(line) for line in said.out.splitlines()]
    assert said.code == 0
    assert [answer.get("step") for answer in answers] == [1, None, None, None, None, 2]
    assert [answer["row"] for answer in answers if "error" in answer] == [2, 3, 4, 5]


def test_a_folder_of_runs_is_named_for_what_it_is(trained: Path, tmp_path: Path, run_clew) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").write_bytes((trained / "recipe.toml").read_bytes())
    said = run_clew("stream", tmp_path)
    assert (
        said.err == f"clew: {tmp_path}: is no run, but a folder of runs\nhint: name one: {tmp_path}/a, {tmp_path}/b\n"
    )


def test_every_task_has_its_words() -> None:
    from clew.cli.train import FIRST, UNITS
    from clew.tasks.train import TASKS

    assert set(UNITS) == set(FIRST) == set(TASKS)
