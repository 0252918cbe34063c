"""Texts from texts: English spelling to phones (CMUdict) and English to French (Tatoeba), each trained by its recipe.

python benchmarks/pairs.py [--data FOLDER] NAME...       names: g2p, tatoeba; "all" for both

FOLDER holds a folder a data set. The test part is looked at once. Writes results/6/g2p.json (stress digits stripped
from the phones, as published work does; with them reported beside) and results/6/tatoeba.json (with attention, and
without it beside, by the length of the source), and a picture of where the decoder looked to docs.
"""

from __future__ import annotations

import argparse
import gzip
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from result import ROOT, commit, write

import clew
from clew.data import pairs
from clew.metrics import Sequences
from clew.tasks.train import read_for

PARTS = ("train", "valid", "test")
G2P = {"token_error": 0.057, "word_error": 0.24, "minutes": 60}
BLEU, MINUTES = 35.0, 90
LENGTHS = (4, 8, 12, 16)  # words of a source, up to


def unpacked(folder: Path, part: str) -> str:
    file = folder / f"{part}.tsv"
    return file.read_text() if file.exists() else gzip.decompress((folder / f"{part}.tsv.gz").read_bytes()).decode()


def without_stress(text: str) -> str:
    """Each line once: words whose variants differ in stress alone have one left."""
    rows = (line.partition("\t") for line in text.splitlines())
    return "".join(dict.fromkeys(f"{word}\t{re.sub(r'[0-9]', '', phones)}\n" for word, _, phones in rows))


def trained(texts: dict[str, str], recipe: str, picture: str = "", **settings: Any) -> tuple[dict[str, Any], Any]:
    """What a run says of itself, and its scores by the length of the source."""
    with tempfile.TemporaryDirectory() as folder:
        for part, text in texts.items():
            (Path(folder) / f"{part}.tsv").write_text(text)
        source, out = Path(folder) / "train.tsv", Path(folder) / "run"
        run = clew.train(source, out, recipe=ROOT / "recipes" / recipe, progress=False, **settings)
        if picture:
            shutil.copy(out / "alignment.svg", ROOT / "docs" / picture)
        return run, by_length(out, Path(folder) / "test.tsv")


def by_length(run: Path, test: Path) -> list[dict[str, Any]]:
    """Scores of sources of so many words."""
    translator = clew.load(run)
    found = pairs.grouped(pairs.read(read_for(run, test), [translator.columns.source], translator.columns.target))
    rows, least = [], 1
    for most in (*LENGTHS, 10_000):
        chosen = [pair for pair in found if least <= len(pair.source.split()) <= most]
        if len(chosen) >= 50:
            metric = Sequences(translator.cut)
            metric.update(translator.write([pair.source for pair in chosen]), [pair.targets for pair in chosen])
            rows.append({"words": [least, most], "n": len(chosen), **metric.result()})
        least = most + 1
    return rows


def g2p(data: Path) -> None:
    measured = commit()
    given = {part: unpacked(data / "g2p-cmudict", part) for part in PARTS}
    figure: dict[str, Any] = {}
    for name, change in (("without_stress", without_stress), ("with_stress", str)):
        run, _ = trained({part: change(text) for part, text in given.items()}, "g2p.toml", "spelling.svg")
        metrics = {"token_error": run["metrics"]["token_error"], "word_error": 1 - run["metrics"]["exact"]}
        kept = {key: run[key] for key in ("valid", "seconds", "steps", "parameters", "n", "parts")}
        figure[name] = {**metrics, **kept}
        print(name, figure[name], flush=True)
    ours = figure["without_stress"]
    write(
        "6/g2p",
        "CMUdict, spelling to phones, test: errors a phone, and share of words that are no reference",
        seeds=[0],
        figure=figure,
        bar=f"without stress: phones at most {G2P['token_error']}, words {G2P['word_error']}, {G2P['minutes']} minutes",
        met=all(ours[name] <= G2P[name] for name in ("token_error", "word_error"))
        and ours["seconds"] <= 60 * G2P["minutes"],
        measured=measured,
    )


def tatoeba(data: Path) -> None:
    measured = commit()
    texts = {part: unpacked(data / "mt-tatoeba-eng-fra", part) for part in PARTS}
    figure: dict[str, Any] = {}
    for name, settings in (("attention", {}), ("fixed_vector", {"attention": "none"})):
        picture = "translation.svg" if name == "attention" else ""
        run, lengths = trained(texts, "tatoeba.toml", picture, **settings)
        kept = {key: run[key] for key in ("metrics", "valid", "seconds", "steps", "parameters", "n", "parts")}
        figure[name] = {**kept, "by_length": lengths}
        print(name, figure[name], flush=True)
    ours = figure["attention"]
    write(
        "6/tatoeba",
        "Tatoeba English to French, test: BLEU, and what a fixed vector loses with the length of the source",
        seeds=[0],
        figure=figure,
        bar=f"BLEU at least {BLEU} within {MINUTES} minutes of training",
        met=ours["metrics"]["bleu"] >= BLEU and ours["seconds"] <= 60 * MINUTES,
        measured=measured,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("names", nargs="+", choices=["g2p", "tatoeba", "all"])
    asked = parser.parse_args()
    if not asked.data.is_dir():
        sys.exit("needs --data, the folder of the data sets")
    for name, line in (("g2p", g2p), ("tatoeba", tatoeba)):
        if name in asked.names or "all" in asked.names:
            line(asked.data)


if __name__ == "__main__":
    main()
