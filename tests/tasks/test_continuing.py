"""Music and drawings: what comes next is foreseen, whole and as a stream, and gone on with."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

import clew
from clew.errors import ClewError
from clew.tasks.frames import moved
from clew.tasks.train import read_for

SETTINGS = {
    **{"progress": False, "threads": 1, "width": 16, "steps": 250, "lr": 1e-2, "window": 16, "batch": 8},
    **{"dropout": 0.0},
}
CHORDS = ([0, 4, 7], [], [5, 9], [7, 11, 2])


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four chords in turn, each piece from another one on, with a wrong key now and then."""
    r, rows = random.Random(0), []
    for _ in range(40):
        first = r.randint(0, 3)
        piece = [list(CHORDS[(first + t) % 4]) for t in range(r.randint(6, 20))]
        rows.append(
            json.dumps([sorted({*chord, *([r.randint(0, 11)] if r.random() < 0.1 else [])}) for chord in piece])
        )
    file = tmp_path_factory.mktemp("music") / "music.jsonl"
    file.write_text("\n".join(rows) + "\n")
    return file


@pytest.fixture(scope="module")
def pen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares that are drawn to the right, down, to the left and up, after which the pen is lifted."""
    r, rows = random.Random(0), []
    for _ in range(40):
        side = r.uniform(5, 15)
        sides = [(side, 0), (0, side), (-side, 0), (0, -side)]
        rows.append(
            json.dumps(
                [
                    [round(x + r.gauss(0, 0.3), 2), round(y + r.gauss(0, 0.3), 2), int(i == 3)]
                    for i, (x, y) in enumerate(sides)
                ]
            )
        )
    file = tmp_path_factory.mktemp("pen") / "pen.jsonl"
    file.write_text("\n".join(rows) + "\n")
    return file


@pytest.fixture(scope="module")
def composer(music: Path) -> Path:
    clew.train(music, music.parent / "run", **SETTINGS)
    return music.parent / "run"


@pytest.fixture(scope="module")
def tracer(pen: Path) -> Path:
    clew.train(pen, pen.parent / "run", components=3, **{**SETTINGS, "steps": 400})
    return pen.parent / "run"


def test_music_is_foreseen(composer: Path) -> None:
    found = json.loads((composer / "metrics.json").read_text())
    assert found["task"] == "generate"
    assert found["keys"] == 12
    assert found["metrics"]["nats"] < 0.5 * found["baseline"]["frequencies"]["nats"]


def test_music_goes_on(composer: Path, run_clew) -> None:
    prompt = json.dumps([CHORDS[0], CHORDS[1]])
    said = run_clew("generate", composer, "--prompt", prompt, "--length", "6", "--temperature", "0")
    assert said.code == 0, said.err
    steps = json.loads(said.out)["steps"]
    assert steps == [sorted(CHORDS[t % 4]) for t in range(8)]
    again = [run_clew("generate", composer, "--length", "9", "--count", "2", "--seed", "4").out for _ in range(2)]
    assert again[0] == again[1]
    assert len(set(again[0].splitlines())) == 2


def test_music_as_a_stream(composer: Path, music: Path, run_clew) -> None:
    """What is said of each frame is what it costs in the whole piece."""
    piece = json.loads(music.read_text().splitlines()[0])
    said = run_clew("stream", composer, feed="".join(json.dumps(frame) + "\n" for frame in piece))
    nats = [json.loads(line)["nats"] for line in said.out.splitlines()]
    whole = clew.load(composer).predictions(read_for(composer, music)).rows[0][1]
    assert np.mean(nats) == pytest.approx(whole, abs=1e-5)
    likely = json.loads(said.out.splitlines()[-1])["next"]
    assert all(0 <= share <= 1 for share in likely.values())


def test_pieces_are_moved_as_far_as_they_go() -> None:
    pieces = [[[0, 4], []], [[5]]]
    found = moved(pieces, 2, 6)
    assert found[:2] == pieces
    assert found[2:] == [[[1, 5], []], [[3]], [[4]]]
    assert moved(pieces, 0, 6) == pieces


def test_drawings_are_foreseen(tracer: Path) -> None:
    found = json.loads((tracer / "metrics.json").read_text())
    assert found["metrics"]["nats"] < found["baseline"]["gaussian"]["nats"] - 2.0
    assert (found["numbers"], found["flags"]) == (2, 1)


def test_drawings_are_in_the_units_of_the_data(pen: Path, tmp_path: Path) -> None:
    """The same data ten times as large: ln 10 more nats a number, and steps ten times as long."""
    rows = [[[10 * x, 10 * y, up] for x, y, up in json.loads(line)] for line in pen.read_text().splitlines()]
    (tmp_path / "large.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small, large = (
        clew.train(file, tmp_path / name, components=3, **{**SETTINGS, "steps": 40})
        for name, file in (("a", pen), ("b", tmp_path / "large.jsonl"))
    )
    for part in ("metrics", "baseline"):
        found = [each[part] if part == "metrics" else each[part]["gaussian"] for each in (small, large)]
        assert found[1]["nats"] - found[0]["nats"] == pytest.approx(2 * math.log(10), abs=1e-3)


def test_drawings_are_drawn(tracer: Path, tmp_path: Path, run_clew) -> None:
    said = run_clew("generate", tracer, "--count", "3", "--temperature", "0.2", "--length", "30")
    pieces = [json.loads(line)["steps"] for line in said.out.splitlines()]
    assert len(pieces) == 3
    for piece in pieces:
        assert len(piece) == 4  # it ends when the square is closed
        assert [step[2] for step in piece] == [0, 0, 0, 1]
        assert np.linalg.norm(np.sum([step[:2] for step in piece], 0)) < 8
    said = run_clew("generate", tracer, "--count", "13", "--out", tmp_path / "a.svg")
    assert said.code == 0, said.err
    assert (tmp_path / "a.svg").read_text().count("<path") >= 13
    said = run_clew("generate", tracer, "--count", "2", "--out", tmp_path / "a.jsonl")
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2


def test_drawings_as_a_stream(tracer: Path, pen: Path, run_clew) -> None:
    piece = json.loads(pen.read_text().splitlines()[0])
    said = run_clew("stream", tracer, feed="".join(json.dumps(step) + "\n" for step in piece))
    last = json.loads(said.out.splitlines()[2])
    assert last["steps"] == 1
    side = piece[0][0]
    assert last["next"][:2] == pytest.approx([0, -side], abs=3.0)


BAD = {
    "a key too many": ("composer", ["--prompt", "[[99]]"], "0 to 11 are known"),
    "no JSON": ("composer", ["--prompt", "do re mi"], "no JSON list"),
    "no list": ("composer", ["--prompt", "3"], "no JSON list"),
    "no numbers": ("tracer", ["--prompt", '[["a", 1, 0]]'], "'a' is not a finite number"),
    "nothing": ("tracer", ["--prompt", "[[null, 1, 0]]"], "None is not a finite number"),
    "another width": ("tracer", ["--prompt", "[[1, 2]]"], "expected 3 numbers a step"),
    "a flat list": ("tracer", ["--prompt", "[1, 2, 0]"], "expected 3 numbers a step"),
    "a key under 0": ("composer", ["--prompt", "[[-1]]"], "expected keys"),
    "half a key": ("composer", ["--prompt", "[[60.5]]"], "expected keys"),
    "no key": ("composer", ["--prompt", "[[true]]"], "expected keys"),
    "no key at all": ("composer", ["--prompt", "[[NaN]]"], "expected keys"),
    "another kind of file": ("tracer", ["--out", "a.pdf"], "unknown kind of file"),
    "units": ("composer", ["--top-k", "3"], "units of text"),
    "a picture of music": ("composer", ["--out", "a.svg"], "drawn with a pen"),
    "a count": ("composer", ["--count", "0"], "--count must be at least 1"),
    "a temperature": ("tracer", ["--temperature", "-1"], "at least 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_written_on(composer: Path, tracer: Path, run_clew, name: str) -> None:
    which, options, what = BAD[name]
    said = run_clew("generate", {"composer": composer, "tracer": tracer}[which], *options)
    assert said.code == 2
    assert what in said.err.replace("\n", " ")


@pytest.mark.parametrize(
    ("rows", "settings", "what"),
    [
        ([[[0, 1], [2]] * n for n in range(1, 31)] + [[[0.5], [1, 2]]], {}, "steps of different width"),
        ([[[0, 1], [2]] * n for n in range(1, 31)], {"keys": 2}, "the key 2, where data.keys says that there are 2"),
        ([[[0, 1], [2]] * n for n in range(1, 31)], {"vocabulary": 7}, "says nothing to frames"),
        ([[[0, 1], [1, 0]] * n for n in range(1, 31)], {}, "nothing but 0 and 1"),
        ([[[0.5, 1], [1, 0]] * n for n in range(1, 31)], {"transpose": 3}, "says nothing to traces"),
        ([[[0.5, 1], [1, 0]] * n for n in range(1, 31)], {"embedding": 32}, "says nothing to traces"),
        ([[[0.5, 1], [1, 0]] * n for n in range(1, 31)], {"keys": 3}, "no keys"),
        ([[[0, 1], [2]] * n for n in range(1, 31)] + [[[math.nan], [1]]], {}, "no keys"),
        ([[[0, 1], [2]] * n for n in range(1, 31)] + [[]], {}, "holds no steps"),
    ],
)
def test_what_cannot_be_learned(tmp_path: Path, rows: list, settings: dict, what: str) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ClewError, match=what):
        clew.train(tmp_path / "a.jsonl", tmp_path / "run", **{**SETTINGS, **settings, "steps": 1})
