"""Texts from texts: English spelling to phones (CMUdict) and English to French (Tatoeba), each trained by its recipe.

python benchmarks/pairs.py [--data FOLDER] [--work FOLDER] [--valid] NAME...     names: the lines below; "all" for all

FOLDER holds a folder a data set. The test part is looked at once. Each line writes results/6/NAME.json: g2p (stress
digits stripped from the phones, as published work does) and, beside it, g2p_stress; tatoeba and, beside it,
tatoeba_fixed (no attention: the source in one vector), both by the length of the source. Pictures of where the decoder
looked go to docs. With --work a run that was stopped goes on where it was; its seconds are those of all its parts; with
--valid it ends with the figures of the validation part, and goes on to the test part when it is called without.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from result import ROOT, commit, write

import clew
from clew.data import pairs
from clew.metrics import Sequences
from clew.tasks.train import read_for

PARTS = ("train", "valid", "test")
G2P = {"token_error": 0.057, "word_error": 0.24, "minutes": 60}
BLEU, MINUTES = 35.0, 90
KEPT = ("valid", "seconds", "steps", "parameters")
LENGTHS = (4, 8, 12, 16)  # words of a source, up to


def unpacked(folder: Path, part: str) -> str:
    file = folder / f"{part}.tsv"
    return file.read_text() if file.exists() else gzip.decompress((folder / f"{part}.tsv.gz").read_bytes()).decode()


def without_stress(text: str) -> str:
    """Each line once: words whose variants differ in stress alone have one left."""
    rows = (line.partition("\t") for line in text.splitlines())
    return "".join(dict.fromkeys(f"{word}\t{re.sub(r'[0-9]', '', phones)}\n" for word, _, phones in rows))


@contextmanager
def folder_of(work: Path | None, name: str) -> Iterator[Path]:
    """Where a line keeps its run: in `work`, for ever, or in a place of its own."""
    if work is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        (work / name).mkdir(parents=True, exist_ok=True)
        yield work / name


class Measured(NamedTuple):
    commit: str  # that the run began with
    run: dict[str, Any]  # what it says of itself, with the metrics of the validation part
    test: dict[str, Any]
    by_length: list[dict[str, Any]]


def trained(
    folder: Path, texts: dict[str, str], recipe: str, look: bool, picture: str = "", **settings: Any
) -> Measured | None:
    """A run and its scores; None where only the validation part is looked at."""
    begun, out = folder / "commit", folder / "run"
    if not begun.exists():
        for part, text in texts.items():
            (folder / f"{part}.tsv").write_text(text)
        begun.write_text(commit())
    done = out / "metrics.json"
    if not done.exists() or json.loads(done.read_text())["stopped"] == "interrupted":
        # The test part is left for later: its place is taken by the validation part.
        begin = {"recipe": ROOT / "recipes" / recipe, "overrides": ["data.test='valid.tsv'"], **settings}
        run = clew.train(folder / "train.tsv", out, progress=False, **({"resume": True} if out.exists() else begin))
        if run["stopped"] == "interrupted":
            sys.exit("stopped: --work goes on with it")
    run = json.loads(done.read_text())
    print({**run["metrics"], "seconds": run["seconds"]}, "(validation part)", flush=True)
    if look:
        return None
    if picture:
        shutil.copy(out / "alignment.svg", ROOT / "docs" / picture)
    test = folder / "test.tsv"
    return Measured(begun.read_text(), run, clew.evaluate(out, test), by_length(out, test))


def by_length(run: Path, test: Path) -> list[dict[str, Any]]:
    """Scores of sources of so many words."""
    translator = clew.load(run)
    found = pairs.of_tables([read_for(run, test)], *translator.columns)
    rows, least = [], 1
    for most in (*LENGTHS, 10_000):
        chosen = [pair for pair in found if least <= len(pair.source.split()) <= most]
        if len(chosen) >= 50:
            metric = Sequences(translator.cut)
            metric.update(translator.write([pair.source for pair in chosen]), [pair.targets for pair in chosen])
            rows.append({"words": [least, most], "n": len(chosen), **metric.result()})
        least = most + 1
    return rows


def g2p(data: Path, name: str, folder: Path, look: bool) -> None:
    stressed = name == "g2p_stress"
    given = {part: unpacked(data / "g2p-cmudict", part) for part in PARTS}
    texts = given if stressed else {part: without_stress(text) for part, text in given.items()}
    settings: dict[str, Any] = {}
    kept = ROOT / "results" / "6" / "g2p.json"
    if stressed and kept.exists():  # as many steps as there, however fast the machine is now
        settings = {"minutes": 0, "steps": json.loads(kept.read_text())["figure"]["steps"]}
    found = trained(folder, texts, "g2p.toml", look, "" if stressed else "spelling.svg", **settings)
    if found is None:
        return
    run, test = found.run, found.test
    errors = {"token_error": test["metrics"]["token_error"], "word_error": 1 - test["metrics"]["exact"]}
    bar = f"phones at most {G2P['token_error']}, words {G2P['word_error']}, {G2P['minutes']} minutes of training"
    write(
        f"6/{name}",
        "CMUdict, spelling to phones, test: errors a phone, and share of words that are no reference"
        + (" (with the digits of stress)" if stressed else ""),
        seeds=[0],
        figure={**errors, "n": test["n"], **{key: run[key] for key in KEPT}},
        bar="none; beside g2p" if stressed else bar,
        met=stressed or (all(errors[it] <= G2P[it] for it in errors) and run["seconds"] <= 60 * G2P["minutes"]),
        measured=found.commit,
    )


def tatoeba(data: Path, name: str, folder: Path, look: bool) -> None:
    fixed = name == "tatoeba_fixed"
    texts = {part: unpacked(data / "mt-tatoeba-eng-fra", part) for part in PARTS}
    settings = {"attention": "none"} if fixed else {}
    picture = "" if fixed else "translation.svg"
    found = trained(folder, texts, "tatoeba.toml", look, picture, **settings)
    if found is None:
        return
    run, metrics = found.run, found.test["metrics"]
    write(
        f"6/{name}",
        "Tatoeba English to French, test: BLEU, by the length of the source beside"
        + (" (a fixed vector in place of attention)" if fixed else ""),
        seeds=[0],
        figure={
            **{"metrics": metrics, "n": found.test["n"]},
            **{key: run[key] for key in KEPT},
            "by_length": found.by_length,
        },
        bar="none; beside tatoeba" if fixed else f"BLEU at least {BLEU} within {MINUTES} minutes of training",
        met=fixed or (metrics["bleu"] >= BLEU and run["seconds"] <= 60 * MINUTES),
        measured=found.commit,
    )


LINES = {"g2p": g2p, "g2p_stress": g2p, "tatoeba": tatoeba, "tatoeba_fixed": tatoeba}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, help="a folder of runs, to go on with where they were stopped")
    parser.add_argument("--valid", action="store_true", help="leave the test part for later; goes with --work")
    parser.add_argument("names", nargs="+", choices=[*LINES, "all"])
    asked = parser.parse_args()
    if not asked.data.is_dir():
        sys.exit("needs --data, the folder of the data sets")
    for name, line in LINES.items():
        if name in asked.names or "all" in asked.names:
            with folder_of(asked.work, name) as folder:
                line(asked.data, name, folder, asked.valid)


if __name__ == "__main__":
    main()
