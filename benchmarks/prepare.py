"""Data sets as a person would have them: what brings a folder of the collection into files that `clew train` takes.
Nothing is chosen here; each function writes into a folder and returns the source to train on.

D the folder of the data set, O where to write
"""

from __future__ import annotations

import csv
import gzip
import wave
import zipfile
from pathlib import Path

import numpy as np

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
HELD = 5000  # images at the end of the training part that validate
STRIPS = {"train": 30_000, "valid": 1_000, "test": 2_000}
STRINGS = {"train": 4_000, "valid": 200, "test": 400}
GAP = 0.05  # seconds of silence between two recordings


def mnist(D: Path, O: Path) -> Path:
    """Images (28, 28) and their digits, as arrays: train.npz, valid.npz, test.npz."""
    for part, (images, labels) in _mnist(D).items():
        np.savez(O / f"{part}.npz", image=images, digit=labels.astype(str))
    return O / "train.npz"


def strips(D: Path, O: Path) -> Path:
    """Three digits side by side, (28, 84), and what they are in words."""
    draws = np.random.default_rng(0)
    for part, (images, labels) in _mnist(D).items():
        which = draws.integers(0, len(images), (STRIPS[part], 3))
        said = [" ".join(WORDS[labels[i]] for i in row) for row in which]
        np.savez(O / f"{part}.npz", strip=np.concatenate(list(images[which].transpose(1, 0, 2, 3)), 2), said=said)
    return O / "train.npz"


def digits(D: Path, O: Path) -> Path:
    """The recordings beside their index."""
    with zipfile.ZipFile(D / "recordings.zip") as archive:
        for name in archive.namelist():
            if name.endswith(".wav"):
                (O / Path(name).name).write_bytes(archive.read(name))
    (O / "index.csv").write_bytes((D / "index.csv").read_bytes())
    return O / "index.csv"


def strings(D: Path, O: Path) -> Path:
    """Three to five recordings of one speaker in one sound, and what is said: train.csv, valid.csv, test.csv.

    Recordings of the official test part are in the test part alone; of the others the five highest indices validate."""
    digits(D, O)
    rows = list(csv.DictReader((O / "index.csv").open()))
    last = max(int(row["index"]) for row in rows)
    draws = np.random.default_rng(0)
    parts = {
        "test": [row for row in rows if row["split"] == "test"],
        "valid": [row for row in rows if row["split"] != "test" and int(row["index"]) > last - 5],
    }
    held = {row["file"] for part in parts.values() for row in part}
    parts["train"] = [row for row in rows if row["file"] not in held]
    for part, chosen in parts.items():
        speakers = sorted({row["speaker"] for row in chosen})
        lines = ["path,text,speaker"]
        for i in range(STRINGS[part]):
            speaker = speakers[int(draws.integers(len(speakers)))]
            own = [row for row in chosen if row["speaker"] == speaker]
            said = [own[int(draws.integers(len(own)))] for _ in range(int(draws.integers(3, 6)))]
            _join([O / row["file"] for row in said], O / f"{part}{i}.wav")
            lines.append(f"{part}{i}.wav,{' '.join(WORDS[int(row['digit'])] for row in said)},{speaker}")
        (O / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return O / "train.csv"


def occupancy(D: Path, O: Path) -> Path:
    for name in ("datatraining", "datatest", "datatest2"):
        (O / f"{name}.csv").write_bytes(gzip.decompress((D / f"{name}.txt.gz").read_bytes()))
    return O / "datatraining.csv"


def generator(D: Path, O: Path) -> Path:
    """Every 500th sample of input and output, in one table."""
    u, y = (gzip.decompress((D / f"{name}_cc.csv.gz").read_bytes()).decode().split() for name in "xy")
    rows = (f"{a},{b}\n" for a, b in zip(u[::500], y[::500], strict=True))
    (O / "generator.csv").write_text("u,y\n" + "".join(rows))
    return O / "generator.csv"


def _mnist(D: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    def read(name: str, head: int) -> np.ndarray:
        return np.frombuffer(gzip.decompress((D / name).read_bytes()), np.uint8, offset=head)

    train, test = (
        (read(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28), read(f"{part}-labels-idx1-ubyte.gz", 8))
        for part in ("train", "t10k")
    )
    cut = len(train[0]) - HELD
    return {"train": (train[0][:cut], train[1][:cut]), "valid": (train[0][cut:], train[1][cut:]), "test": test}


def _join(files: list[Path], out: Path) -> None:
    parts, rate = [], 0
    for file in files:
        with wave.open(str(file)) as sound:
            rate = sound.getframerate()
            parts += [np.frombuffer(sound.readframes(sound.getnframes()), "<i2"), np.zeros(int(GAP * rate), "<i2")]
    with wave.open(str(out), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(np.concatenate(parts[:-1]).tobytes())
