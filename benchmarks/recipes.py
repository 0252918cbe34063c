"""Published data sets, one recipe each: trained, the test part looked at once, and held against its bar.

python benchmarks/recipes.py [--data FOLDER] NAME...       names: those of LINES; "all" for every one

FOLDER holds a folder a data set (see LINES). Three seeds where a run is under ten minutes, one where it is longer.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from result import ROOT, commit, write

import clew


class Line(NamedTuple):
    source: str
    metric: str
    bar: float
    minutes: float
    seeds: int
    what: str

    @property
    def higher(self) -> bool:
        return self.metric == "accuracy"


LINES = {
    "ewt": Line("pos-ud-english-ewt/en_ewt-ud-train.conllu.gz", "accuracy", 0.955, 15, 1, "English EWT, UPOS, test"),
    "snips": Line("nlu-snips/train.tsv", "accuracy", 0.985, 4, 3, "SNIPS intents, test"),
    "banking77": Line("text-banking77/train.csv", "accuracy", 0.86, 10, 3, "Banking77 intents, test"),
    "movies": Line("text-movie-reviews/reviews.jsonl.gz", "accuracy", 0.80, 15, 1, "Movie reviews, fold 1 of 10"),
    "vowels": Line("tsc-ucr-uea/JapaneseVowels_TRAIN.ts.gz", "accuracy", 0.975, 3, 3, "JapaneseVowels, test"),
    "pendigits": Line("handwriting-pendigits/pendigits.tra.gz", "accuracy", 0.98, 5, 3, "Pendigits, test"),
    "esol": Line("chem-esol/delaney-processed.csv", "rmse", 1.0, 10, 3, "ESOL from SMILES, a random tenth"),
    "shakespeare": Line("lm-tinyshakespeare/input.txt", "nats", 1.45, 12, 1, "Tiny Shakespeare, last tenth"),
    "warpeace": Line("lm-warpeace/warpeace_input.txt.gz", "nats", 1.20, 30, 1, "War and Peace, last tenth"),
}


def measure(name: str, data: Path) -> None:
    line, measured = LINES[name], commit()
    runs = []
    for seed in range(line.seeds):
        with tempfile.TemporaryDirectory() as out:
            recipe = ROOT / "recipes" / f"{name}.toml"
            run = clew.train(data / line.source, Path(out) / "run", recipe=recipe, seed=seed, progress=False)
        runs.append(run)
        print(
            f"{name}, seed {seed}: {line.metric} {run['metrics'][line.metric]:.4f}, {run['seconds']:.0f} s", flush=True
        )
    values, seconds = [run["metrics"][line.metric] for run in runs], [run["seconds"] for run in runs]
    reached = min(values) >= line.bar if line.higher else max(values) <= line.bar
    write(
        f"3/{name}",
        f"{line.what}: {line.metric}",
        seeds=list(range(line.seeds)),
        figure={
            line.metric: values,
            "seconds": seconds,
            "metrics": [run["metrics"] for run in runs],
            "valid": [run["valid"] for run in runs],
            "baseline": runs[0]["baseline"],
            "parameters": runs[0]["parameters"],
            "steps_per_second": [run["steps_per_second"] for run in runs],
            "n": runs[0]["n"],
            "parts": runs[0]["parts"],
            "test_seen_in_training": runs[0].get("test_seen_in_training", 0),
        },
        bar=f"{'at least' if line.higher else 'at most'} {line.bar} in {line.minutes} minutes of training, every seed",
        met=reached and max(seconds) <= 60 * line.minutes,
        measured=measured,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("names", nargs="+", choices=[*LINES, "all"])
    asked = parser.parse_args()
    if not asked.data.is_dir():
        sys.exit("needs --data, the folder of the data sets")
    for name in LINES if "all" in asked.names else asked.names:
        measure(name, asked.data)


if __name__ == "__main__":
    main()
