"""A user's mistake ends in exit 2 and one to four lines: what, where, how to mend it. Nothing good is overwritten."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = "hour,load\n" + "".join(f"{t},{t % 7}.5\n" for t in range(60))

FILES = {
    "empty": ("", ["data.csv: is empty", "hint:"]),
    "header only": ("hour,load\n", ["data.csv: ", "header", "hint:"]),
    "not a number": (GOOD.replace("12,5.5", "12,five"), ["data.csv, row 14, column 'load': 'five'", "hint:"]),
    "nan": (GOOD.replace("12,5.5", "12,NaN"), ["data.csv, row 14, column 'load'", "hint:"]),
    "empty cell": (GOOD.replace("12,5.5", "12,"), ["data.csv, row 14, column 'load'", "hint:"]),
    "ragged": (GOOD.replace("12,5.5", "12,5,5"), ["data.csv, row 14: ", "hint:"]),
    "encoding": (GOOD.encode().replace(b"12,5.5", b"12,\xe9"), ["data.csv, row 14", "UTF-8", "hint:"]),
    "too short": ("hour,load\n1,2\n2,3\n", ["data.csv: ", "too short", "hint:"]),
    "no numbers": ("a,b\n" + "x,y\n" * 30, ["no column looks like labels", "hint: name it with --target"]),
}

OPTIONS = {
    "missing column": (["--target", "laod"], ["no column 'laod'", "did you mean 'load'"]),
    "missing input": (["--input", "huor"], ["no column 'huor'", "did you mean 'hour'"]),
    "horizon too long": (["--horizon", "50"], ["data.csv: the horizon of 50 steps is longer", "hint: use --horizon 6"]),
    "window too long": (["--set", "train.window=55"], ["55", "hint:"]),
    "season too long": (
        ["--set", "season=70", "--set", "anchor=season", "--horizon", "2"],
        ["the season of 70 steps", "hint:"],
    ),
    "unknown key": (["--set", "train.lrr=1"], ["unknown key 'train.lrr'", "did you mean 'lr'"]),
    "unknown cell": (["--cell", "lstn"], ["unknown cell 'lstn'", "did you mean 'lstm'"]),
    "unknown task": (["--task", "forcast"], ["unknown task 'forcast'", "did you mean 'forecast'"]),
    "unknown option of a cell": (["--set", "cell_options={zoneuot=0.1}"], ["'zoneuot'", "did you mean 'zoneout'"]),
    "bad option of a cell, by its name": (["--set", "cell_options.zoneout=2.0"], ["zoneout must be"]),
    "bad option of a cell": (["--set", "cell_options={zoneout=2.0}"], ["zoneout must be"]),
    "an option of another type": (["--set", "cell_options={zoneout='a lot'}"], ["option 'zoneout'", "(got 'a lot')"]),
    "a pair out of order": (["--cell", "lru", "--set", "cell_options={radius=[0.9,0.1]}"], ["radius must be"]),
    "one of two cells": (["--cell", "gru+attentoin"], ["unknown cell 'attentoin'", "did you mean 'attention'"]),
    "heads that do not fit": (["--cell", "gla", "--set", "cell_options={heads=5}"], ["shared equally by 5 heads"]),
    "a value out of bounds": (["--set", "batch=0"], ["train.batch", "(got 0)"]),
    "unknown mode": (["--mode", "both"], ["'iterative' or 'direct'"]),
    "unknown device": (["--set", "device=gpu"], ["'gpu'", "hint:"]),
    "recipe missing": (["--recipe", "nope.toml"], ["nope.toml: no such file"]),
}


def checked(said, *parts: str) -> None:
    """Exit 2, nothing on stdout, one to four lines on stderr beside the talk, and what they must say."""
    lines = [line for line in said.err.splitlines() if not line.startswith(("task:", "target:"))]
    assert said.code == 2, said
    assert said.out == ""
    assert 1 <= len(lines) <= 4, said.err
    assert lines[0].startswith("clew: ")
    assert all(part in said.err for part in parts), said.err


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file(name: str, tmp_path: Path, run_clew) -> None:
    content, parts = FILES[name]
    file = tmp_path / "data.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    checked(run_clew("train", file, "--out", tmp_path / "run"), *parts)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", OPTIONS)
def test_a_bad_option(name: str, tmp_path: Path, run_clew) -> None:
    options, parts = OPTIONS[name]
    file = tmp_path / "data.csv"
    file.write_text(GOOD)
    checked(run_clew("train", file, "--out", tmp_path / "run", *options), *parts)
    assert not (tmp_path / "run").exists()


def test_files_and_recipes_that_are_not_there(tmp_path: Path, run_clew) -> None:
    (tmp_path / "data.csv").write_text(GOOD)
    checked(run_clew("train", tmp_path / "dat.csv"), "no such file", "did you mean")
    checked(run_clew("train", "sample:co3"), "no sample 'co3'", "did you mean 'co2'")
    checked(run_clew("train"), "no source given", "hint:")
    recipe = tmp_path / "r.toml"
    for text, parts in [
        ("[train]\nlrr = 1\n", ["r.toml", "unknown key 'train.lrr'", "did you mean 'lr'"]),
        ("[train]\nlr = \n", ["r.toml, row 2: not TOML"]),
    ]:
        recipe.write_text(text)
        checked(run_clew("train", tmp_path / "data.csv", "--recipe", recipe), *parts)


def test_a_run_is_not_overwritten(trained: Path, series_file: Path, tmp_path: Path, run_clew) -> None:
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    checked(run_clew("train", series_file, "--out", trained), "already holds a run", "hint:")
    checked(
        run_clew("train", series_file, "--out", trained, "--resume", "--cell", "gru"), "model.cell is 'gru'", "hint:"
    )
    other = tmp_path / "other.csv"
    other.write_text(series_file.read_text().replace("10.", "11."))
    checked(run_clew("train", other, "--out", trained, "--resume"), "the data are not those", "hint:")
    assert before == {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    checked(run_clew("train", series_file, "--out", tmp_path / "mine"), "is not empty and holds no run", "hint:")
    checked(run_clew("train", series_file, "--out", series_file), "is a file", "hint:")


@pytest.mark.parametrize("file", ["recipe.toml", "model.safetensors", "plan.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "noise"])
def test_a_damaged_run(trained: Path, series_file: Path, tmp_path: Path, run_clew, file: str, damage: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    content = (run / file).read_bytes()
    if damage == "missing":
        (run / file).unlink()
    else:
        (run / file).write_bytes({"cut": content[: len(content) // 2], "empty": b"", "noise": b"\xff\x00" * 50}[damage])
    for verb in ("evaluate", "predict", "stream"):
        checked(run_clew(verb, run, *([series_file] if verb != "stream" else [])), file)


@pytest.mark.parametrize("key", ["mean", "std", "columns", "lag", "season", "horizon", "window", "levels"])
@pytest.mark.parametrize("value", [None, "x", [], [float("inf")], -1, 10**30, {}])
def test_a_scaler_that_says_something_else(
    trained: Path, series_file, tmp_path: Path, run_clew, key: str, value
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    saved = json.loads((run / "plan.json").read_text())
    (run / "plan.json").write_text(json.dumps({**saved, key: value}))
    checked(run_clew("evaluate", run, series_file), str(run))


def test_no_run_and_nothing_to_evaluate(trained: Path, series_file: Path, tmp_path: Path, run_clew) -> None:
    checked(run_clew("evaluate", tmp_path / "nope", series_file), "no such run folder", "hint:")
    checked(run_clew("predict", tmp_path, series_file), "recipe.toml: is missing", "hint:")
    short = tmp_path / "short.csv"
    short.write_text("hour,load,heat\n1,2,3\n2,3,4\n")
    checked(run_clew("evaluate", trained, short), "short.csv: has 2 steps", "hint:")
    other = tmp_path / "other.csv"
    other.write_text(GOOD)
    checked(run_clew("predict", trained, other), "no column 'heat'", "hint:")
    checked(run_clew("predict", trained, series_file, "--horizon", "-2"), "--horizon must be at least 1")
    checked(run_clew("predict", trained, series_file, "--out", tmp_path / "no" / "f.csv"), "f.csv", "hint:")


def _small_files() -> None:
    """What the kernel allows the child to write: 64 KiB a file, as on a disk that is nearly full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))


def test_a_full_disk_while_saving(series_file: Path, tmp_path: Path, run_clew) -> None:
    """A real limit of the kernel's: the weights of 100 units do not fit, those of 6 that stood there stay."""
    out = tmp_path / "run"
    quick = ["--set", "steps=10", "--set", "validate_every=5"]
    command = [sys.executable, "-m", "clew", "train", str(series_file), "--out", str(out), "--set", "width=100", *quick]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=_small_files, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "safetensors" in done.stderr
    assert "hint:" in done.stderr
    assert not [path for path in out.rglob("*") if "tmp" in path.name]
    assert run_clew("train", series_file, "--out", out, "--resume").code == 0  # with room again it goes on


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clew", "--debug", "train", str(tmp_path / "nope.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr
    assert "no such file" in done.stderr
