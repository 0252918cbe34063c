"""Other shapes of inputs and answers: images and videos, a series that drives another, letters with tags."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clew
from clew.errors import ClewError

SETTINGS = {
    **{"progress": False, "threads": 1, "width": 16, "steps": 150, "lr": 1e-2, "patience": 0, "dropout": 0.0},
}


def bars(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images with a bar that lies or stands."""
    random, images = np.random.default_rng(seed), np.zeros((n, 8, 6), np.uint8)
    labels = random.integers(0, 2, n)
    for image, stands in zip(images, labels, strict=True):
        image[:] = random.integers(0, 60, image.shape)
        at = random.integers(0, 6)
        image[:, at] = np.where(stands, 255, image[:, at])
        image[at] = np.where(stands, image[at], 255)
    return images, np.where(labels, "stands", "lies")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images, labels = bars(160)
    file = tmp_path_factory.mktemp("bars") / "bars.npz"
    np.savez(file, image=images, label=labels)
    return file


@pytest.mark.parametrize("settings", [{}, {"scan": "columns"}, {"scan": "pixels", "steps": 400}, {"image": [1, 6]}])
def test_images_are_told_apart(arrays: Path, tmp_path: Path, settings: dict) -> None:
    found = clew.train(arrays, tmp_path / "run", **{**SETTINGS, **settings})
    assert found["task"] == "classify"
    assert found["metrics"]["accuracy"] > 0.9 > found["baseline"]["majority"]["accuracy"]
    assert clew.evaluate(tmp_path / "run", arrays)["metrics"]["accuracy"] > 0.9


def test_an_image_row_by_row(arrays: Path, tmp_path: Path, run_clew) -> None:
    """A stream of its rows comes to the same answer."""
    clew.train(arrays, tmp_path / "run", **SETTINGS)
    rows = list(csv.DictReader(io.StringIO(run_clew("predict", tmp_path / "run", arrays).out)))
    image = bars(160)[0][0]
    said = run_clew("stream", tmp_path / "run", feed="".join(json.dumps(row.tolist()) + "\n" for row in image))
    last = json.loads(said.out.splitlines()[-1])
    assert last["label"] == rows[0]["label"]
    assert last["probability"] == pytest.approx(float(rows[0]["probability"]), abs=1e-5)


def test_files_of_images_and_what_is_written_of_them(tmp_path: Path, run_clew) -> None:
    images, labels = bars(60)
    lines = ["path,caption"]
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,a bar that {label}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    settings = {**SETTINGS, "steps": 120, "target_unit": "word", "scan": "columns"}
    found = clew.train(tmp_path / "t.csv", tmp_path / "run", task="caption", **settings)
    assert found["metrics"]["exact"] > 0.8
    said = run_clew("predict", tmp_path / "run", tmp_path / "t.csv")
    assert said.out.count("a bar that") == 60


def test_videos(tmp_path: Path) -> None:
    """A spot that goes from the left half to the right one, or back: no single frame tells which."""
    random, n = np.random.default_rng(0), 120
    videos, ways = np.zeros((n, 4, 8, 8, 1), np.float32), random.integers(0, 2, n)
    for video, way in zip(videos, ways, strict=True):
        for t, frame in enumerate(video):
            right = (t >= 2) == way
            frame[random.integers(0, 8), random.integers(0, 4) + 4 * right] = 1.0
    np.savez(tmp_path / "v.npz", video=videos, way=np.where(ways, "right", "left"))
    found = clew.train(tmp_path / "v.npz", tmp_path / "run", target="way", image=[8, 8], **{**SETTINGS, "steps": 300})
    assert found["metrics"]["accuracy"] > 0.9
    names = {name for name, _ in clew.load(tmp_path / "run").model.named_parameters()}
    assert any("convolutions" in name for name in names)


@pytest.fixture(scope="module")
def driven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    r, u, y, rows = random.Random(0), 0.0, 0.0, ["u,y"]
    for _ in range(900):
        u = r.choice([0.0, 5.0]) if r.random() < 0.2 else u
        y = 0.8 * y + 0.2 * u + 0.02 * u * y
        rows.append(f"{u},{y:.5f}")
    file = tmp_path_factory.mktemp("system") / "system.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


def test_a_series_that_drives_another(driven: Path, tmp_path: Path, run_clew) -> None:
    settings = {**SETTINGS, "steps": 300, "window": 32, "batch": 8, "task": "regress", "target": "y", "pooling": "none"}
    found = clew.train(driven, tmp_path / "run", **settings)
    assert found["metrics"]["r2"] > 0.9
    assert found["baseline"]["mean"]["r2"] < 0.1
    rows = list(csv.DictReader(io.StringIO(run_clew("predict", tmp_path / "run", driven).out)))
    assert set(rows[0]) == {"sequence", "step", "y"}
    feed = "".join(
        json.dumps({"u": float(line.split(",")[0])}) + "\n" for line in driven.read_text().splitlines()[1:40]
    )
    streamed = [json.loads(line)["y"][0] for line in run_clew("stream", tmp_path / "run", feed=feed).out.splitlines()]
    np.testing.assert_allclose(streamed, [float(row["y"]) for row in rows[:39]], atol=1e-5)
    assert clew.evaluate(tmp_path / "run", driven)["metrics"]["r2"] > 0.9


def test_rows_of_steps_can_be_scaled_alike(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,y\n" + "".join(f"{i},{100 + i % 7},{i % 5}.5\n" for i in range(60)))
    settings = {**SETTINGS, "steps": 1, "task": "regress", "target": "y", "pooling": "none", "scale": "all"}
    clew.train(tmp_path / "t.csv", tmp_path / "run", **settings)
    assert len(set(clew.load(tmp_path / "run").source.scaler.mean.tolist())) == 1


def test_lists_that_drive_lists(tmp_path: Path) -> None:
    r, rows = random.Random(0), []
    for _ in range(80):
        u = [r.gauss(0, 1) for _ in range(r.randint(3, 9))]
        rows.append({"u": u, "y": [sum(u[: t + 1]) for t in range(len(u))]})
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {**SETTINGS, "steps": 300, "task": "regress", "target": "y", "inputs": ["u"], "pooling": "none"}
    assert clew.train(tmp_path / "t.jsonl", tmp_path / "run", **settings)["metrics"]["r2"] > 0.8
    rows[7]["y"] = rows[7]["y"][:-1]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ClewError, match="numbers for") as error:
        clew.train(tmp_path / "t.jsonl", tmp_path / "other", **settings)
    assert error.value.row == 8


@pytest.mark.parametrize("task", ["classify", "set"])
def test_only_numbers_are_told_at_each_step(arrays: Path, tmp_path: Path, task: str) -> None:
    with pytest.raises(ClewError, match="pooling = none"):
        clew.train(arrays, tmp_path / "run", task=task, target="label", pooling="none", **SETTINGS)


def test_letters_with_tags(tmp_path: Path, run_clew) -> None:
    r, rows = random.Random(0), ["residues\tstructure"]
    for _ in range(90):
        letters = "".join(r.choice("ABC") for _ in range(r.randint(2, 9)))
        rows.append(letters + "\t" + "".join({"A": "h", "B": "e"}.get(letter, "-") for letter in letters))
    (tmp_path / "t.tsv").write_text("\n".join(rows) + "\n")
    said = run_clew(
        *("train", tmp_path / "t.tsv", "--task", "tag", "--input", "residues", "--target", "structure"),
        *("--out", tmp_path / "run", "--set", "width=16", "--set", "steps=100", "--set", "lr=1e-2", "--json"),
    )
    assert said.code == 0, said.err
    assert "each letter of 'residues'" in said.err
    assert json.loads(said.out)["metrics"]["accuracy"] == 1.0
    streamed = run_clew("stream", tmp_path / "run", feed="ABCA\n")
    assert json.loads(streamed.out)["structure"] == ["h", "e", "-", "h"]


@pytest.mark.parametrize("cell", ["conv+gru", "conv+conv"])
def test_convolutions_below_a_recurrence(arrays: Path, tmp_path: Path, cell: str) -> None:
    found = clew.train(arrays, tmp_path / "run", cell=cell, layers=2, mask_steps=1, mask_channels=1, **SETTINGS)
    assert found["metrics"]["accuracy"] > 0.9
