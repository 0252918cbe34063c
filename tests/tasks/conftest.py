"""Small files of every kind, with something to learn in each, and a trained run of every task."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from small_runs import FAST, RUNS

import clew


def reviews(n: int = 120, seed: int = 0) -> list[tuple[str, str, float]]:
    """A text, its label, and a number that grows with its praise."""
    r = random.Random(seed)
    rows = []
    for i in range(n):
        label = r.choice(["good", "bad"])
        praise = {"good": ["fine", "lovely", "great"], "bad": ["dull", "poor", "awful"]}[label]
        words = [r.choice(["the", "film", "was", "a", "plot", "and", str(i)]) for _ in range(r.randint(2, 7))]
        marks = r.randint(1, 3)
        for _ in range(marks):
            words.insert(r.randint(0, len(words)), r.choice(praise))
        rows.append((" ".join(words), label, marks * (1 if label == "good" else -1)))
    return rows


def sentences(n: int = 90, seed: int = 0) -> list[list[tuple[str, str]]]:
    """Words with tags; a name is two words long."""
    r = random.Random(seed)
    names = [("Ada", "B-PER"), ("Lovelace", "I-PER")], [("Mount", "B-LOC"), ("Etna", "I-LOC")]
    found = []
    for _ in range(n):
        sentence: list[tuple[str, str]] = []
        for _ in range(r.randint(1, 4)):
            sentence += r.choice(names) if r.random() < 0.4 else [(r.choice(["saw", "near", "big", "is"]), "O")]
        found.append(sentence)
    return found


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    rows = reviews()
    (folder / "reviews.csv").write_text("text,stars,label\n" + "".join(f"{t},{n},{c}\n" for t, c, n in rows))
    (folder / "words.conll").write_text("\n\n".join("\n".join("\t".join(w) for w in s) for s in sentences()) + "\n")
    (folder / "story.txt").write_text("the cat sat on the mat and the dog sat on the log. " * 60)
    r = random.Random(1)
    waves = []
    for _ in range(80):
        kind, n = r.choice(["up", "down"]), r.randint(4, 9)
        values = [round((t if kind == "up" else -t) + r.gauss(0, 0.3), 4) for t in range(n)]
        other = [round(r.gauss(0, 1), 4) for _ in range(n)]
        waves.append(f"{','.join(map(str, values))}:{','.join(map(str, other))}:{kind}")
    head = "@problemName waves\n@dimensions 2\n@classLabel true up down\n@data\n"
    (folder / "waves.ts").write_text(head + "\n".join(waves) + "\n")
    steps = ["hour,light,heat,state"]
    for t in range(300):
        day = t % 24 < 12
        steps.append(f"{t},{(5 if day else 0) + r.gauss(0, 1):.3f},{r.gauss(20, 1):.3f},{'day' if day else 'night'}")
    (folder / "room.csv").write_text("\n".join(steps) + "\n")
    flowers = ["a,b,c,species"]
    for _ in range(120):
        kind = r.choice(["x", "y", "z"])
        flowers.append(f"{'xyz'.index(kind) + r.gauss(0, 0.2):.3f},{r.gauss(0, 1):.3f},{r.gauss(5, 1):.3f},{kind}")
    (folder / "flowers.csv").write_text("\n".join(flowers) + "\n")
    return {file.stem: file for file in folder.iterdir()}


@pytest.fixture(scope="session")
def runs(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run folder of every kind of task."""
    folder = tmp_path_factory.mktemp("runs")
    for name, (file, settings) in RUNS.items():
        clew.train(files[file], folder / name, **{**FAST, **settings})
    return {name: folder / name for name in RUNS}
