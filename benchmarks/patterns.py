"""The other patterns on real data, one recipe each: trained, the test part looked at once, and held against its bar.

python benchmarks/patterns.py [--data FOLDER] [--valid] NAME...       names: those of LINES; "all" for every one

FOLDER holds a folder a data set (see LINES and `prepare`). With --valid what the validation part says is printed,
and the test part's figures are thrown away unseen: that is how a recipe is chosen. Each line writes
results/7/NAME.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import arx
import numpy as np
import prepare
from result import ROOT, commit, write

import clew
from clew.data.audio import read_sound
from clew.data.series import split
from clew.data.table import numeric
from clew.tasks import continuing
from clew.tasks.picture import draw_traces
from clew.tasks.run import RunFolder
from clew.tasks.train import read_for

MINUTES = 30
LOWER = ("nats", "wer", "rmse")
STREAMED = 100  # sounds
DRAWN, NEAT, LONGEST = 24, 0.5, 300  # characters from a model of handwriting: how many, at which temperature, steps
BESIDE = (
    "nats_a_stroke",
    "nats_after_the_first_frame",
    "rmse_beside_arx",
    "arx",
    "streams_like_the_whole",
    "test_2",
    "test_2_baseline",
    "without_light",
)
KEPT = ("metrics", "baseline", "valid", "seconds", "steps", "parameters", "n", "parts", "test_seen_in_training")
Prepare = Callable[[Path, Path], Path]


class Line(NamedTuple):
    """Args:
    folder: of the data.
    source: the file in it to train on, or what makes one.
    bars: metrics and what they must reach; of several seeds their mean must.
    what: in words.
    seeds: how many.
    minutes: of training.
    """

    folder: str
    source: str | Prepare
    bars: dict[str, float]
    what: str
    seeds: int = 1
    minutes: float = MINUTES


LINES = {
    "digits": Line("speech-fsdd", prepare.digits, {"accuracy": 0.99}, "Free Spoken Digits, official test"),
    "strings": Line(
        "speech-fsdd", prepare.strings, {"wer": 0.08, "streams_like_the_whole": 1.0}, "Strings of 3 to 5 spoken digits"
    ),
    "mnist_rows": Line("image-seq-mnist", prepare.mnist, {"accuracy": 0.992}, "MNIST by rows, test", minutes=8),
    "mnist_pixels": Line("image-seq-mnist", prepare.mnist, {"accuracy": 0.95}, "MNIST by pixels, test"),
    "strips": Line("image-seq-mnist", prepare.strips, {"exact": 0.90}, "Strips of three digits to words"),
    "snips_joint": Line("nlu-snips", "train.tsv", {"1.accuracy": 0.987, "3.f1": 0.94}, "SNIPS intents and slots, test"),
    "wnut": Line("ner-wnut17", "train.conll", {}, "WNUT 2017, entity f1, test (published without pretrained: 0.456)"),
    "occupancy": Line("seqtag-occupancy", prepare.occupancy, {"accuracy": 0.95}, "Occupancy, test 1"),
    "arrivals": Line("seqtag-occupancy", prepare.occupancy, {}, "Occupancy: arrivals within five minutes, test 1"),
    "chorales": Line(
        "music-jsb-chorales", "train.jsonl.gz", {"nats_after_the_first_frame": 8.00}, "JSB Chorales, test"
    ),
    "kanji": Line("handwriting-kanjivg", "train.jsonl.gz", {}, "KanjiVG, nats a step and a stroke, test"),
    "splice": Line("bio-splice-junctions", "splice.tsv", {"accuracy": 0.94}, "Splice junctions, a tenth", seeds=3),
    "protein": Line("bio-protein-secondary", "train.tsv", {"accuracy": 0.63}, "Secondary structure, Q3, test", seeds=3),
    "tox21": Line("chem-tox21", "tox21.csv.gz", {"auc": 0.74}, "Tox21, mean AUC of 12, a random tenth"),
    "motions": Line("tsc-ucr-uea", "BasicMotions_TRAIN.ts.gz", {"accuracy": 0.975}, "BasicMotions, test", seeds=3),
    "gunpoint": Line("tsc-ucr-uea", "GunPoint_TRAIN.ts.gz", {"accuracy": 0.95}, "GunPoint, test", seeds=3),
    "buck": Line("sysid-buck-converter", "buck_id.csv", {"rmse_beside_arx": 1.0}, "Buck converter, simulated, test"),
    "generator": Line(
        "sysid-generator", prepare.generator, {"rmse_beside_arx": 1.0}, "Motor-generator, simulated, the last 15%"
    ),
}


def source_of(line: Line, data: Path, out: Path) -> Path:
    return data / line.folder / line.source if isinstance(line.source, str) else line.source(data / line.folder, out)


def more_of(name: str, run: Path, source: Path) -> dict[str, Any]:
    """What a line says beside its metrics."""
    if name == "occupancy":
        second = clew.evaluate(run, source.parent / "datatest2.csv")
        recipe = RunFolder(run).recipe()
        dark = [name for name in recipe.data.inputs if name != "Light"]
        without = clew.train(source, run.with_name("dark"), recipe=recipe, inputs=dark, progress=False)
        beside = {"test_2": second["metrics"], "test_2_baseline": second["baseline"]}
        return {**beside, "without_light": {key: without[key] for key in ("metrics", "valid", "seconds")}}
    if name == "strings":
        return {"streams_like_the_whole": streamed(run, source.parent / "test.csv")}
    if name in ("buck", "generator"):
        return beside_arx(run, source)
    if name == "kanji":
        drawn(run)
        return {"nats_a_stroke": a_stroke(run, source.parent / "test.jsonl.gz")}
    if name == "chorales":
        return {"nats_after_the_first_frame": after_first(run, source.parent / "test.jsonl.gz")}
    return {}


def streamed(run: Path, test: Path) -> float:
    """The share of sounds that a stream, fed a tenth of a second at a time, writes down as the best path of the whole
    does."""
    transcriber = clew.load(run).searching(beam=1, language="")
    table = read_for(run, test)
    table = table.take(np.arange(min(STREAMED, table.rows)))
    same = 0
    for row, name in zip(transcriber.predictions(table).rows, table.column("path").to_list(), strict=True):
        whole, session, heard = row[2], clew.stream.Session(transcriber), []
        sound = read_sound(test.parent / name)
        for first in range(0, len(sound.samples), sound.rate // 10):
            heard.append(session.push(sound.samples[first : first + sound.rate // 10].tolist()).get("text", ""))
        same += "".join(heard) == whole  # letters, and blanks between words
    return same / table.rows


def beside_arx(run: Path, source: Path) -> dict[str, Any]:
    """The error beside that of a linear model, which is chosen on the same parts."""
    data = RunFolder(run).recipe().data

    def read(file: Path) -> tuple[np.ndarray, np.ndarray]:
        table = read_for(run, file)
        return numeric(table, data.inputs[0]), numeric(table, data.target)

    u, y = read(source)
    cuts = split(len(y), *(part if isinstance(part, float) else 0.0 for part in (data.valid, data.test)))
    train, valid, test = ((u[part], y[part]) for part in cuts)
    if isinstance(data.test, str):
        test = read(source.with_name(data.test))
    linear = arx.chosen(train, valid)
    error = arx.rmse(linear.simulate(test[0]), test[1])
    said = {"rmse": error, "valid_rmse": arx.rmse(linear.simulate(valid[0]), valid[1]), "order": linear.order}
    return {"arx": said, "rmse_beside_arx": RunFolder(run).metrics()["metrics"]["rmse"] / error}


def drawn(run: Path) -> None:
    """A picture of what the model draws from nothing."""
    tracer = clew.load(run)
    pieces = [list(tracer.compose([], length=LONGEST, temperature=NEAT, seed=seed)) for seed in range(DRAWN)]
    draw_traces(ROOT / "docs" / "handwriting.svg", pieces, tracer.flags.tolist())


def a_stroke(run: Path, test: Path) -> float:
    """Nats for each time that the pen is lifted, which the third number of a step says."""
    tracer = clew.load(run)
    drawings = continuing.documents([read_for(run, test)], tracer.read)
    whole = tracer.nats([tracer.example(drawing) for drawing in drawings])
    return whole.result()["nats"] * whole.n / sum(drawing.raw[:, 2].sum() for drawing in drawings)


def after_first(run: Path, test: Path) -> float:
    """Without the first frame of each piece, which the published figures leave out."""
    composer = clew.load(run)
    pieces = continuing.documents([read_for(run, test)], composer.read)
    whole = composer.nats([composer.example(piece) for piece in pieces])
    first = composer.nats([composer.example(piece._replace(raw=piece.raw[:1])) for piece in pieces])
    nats = whole.result()["nats"] * whole.n - first.result()["nats"] * first.n
    return nats / (whole.n - first.n)


def measure(name: str, data: Path, look: bool, changes: list[str]) -> None:
    line, measured, runs = LINES[name], commit(), []
    with tempfile.TemporaryDirectory() as work:
        source = source_of(line, data, Path(work))
        for seed in range(line.seeds):
            out, recipe = Path(work) / f"run{seed}", ROOT / "recipes" / f"{name}.toml"
            run = clew.train(source, out, recipe=recipe, overrides=changes, seed=seed, progress=False)
            shown = run["valid"] if look else run["metrics"]
            print(name, seed, {k: round(v, 4) for k, v in shown.items()}, f"{run['seconds']:.0f} s", flush=True)
            runs.append(run if look else {**run, **more_of(name, out, source)})
    if look:
        return

    def mean(metric: str) -> float:
        return sum(run["metrics"].get(metric, run.get(metric)) for run in runs) / len(runs)

    reached = all(mean(m) <= bar if m.startswith(LOWER) else mean(m) >= bar for m, bar in line.bars.items())
    slowest = max(run["seconds"] for run in runs)
    wanted = ", ".join(f"{m} {'at most' if m.startswith(LOWER) else 'at least'} {bar}" for m, bar in line.bars.items())
    write(
        f"7/{name}",
        line.what,
        seeds=list(range(line.seeds)),
        figure={
            **{metric: mean(metric) for metric in line.bars},
            "runs": [{key: run[key] for key in (*KEPT, *BESIDE) if key in run} for run in runs],
        },
        bar=f"{wanted or 'none'}, in {line.minutes:g} minutes of training"
        + (f", the mean of {line.seeds} seeds" if line.seeds > 1 else ""),
        met=reached and slowest <= 60 * line.minutes,
        measured=measured,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--valid", action="store_true", help="look at the validation part alone")
    parser.add_argument("--set", action="append", default=[], dest="changes", help="with --valid: KEY=VALUE")
    parser.add_argument("names", nargs="+", choices=[*LINES, "all"])
    asked = parser.parse_args()
    if not asked.data.is_dir():
        sys.exit("needs --data, the folder of the data sets")
    if asked.changes and not asked.valid:
        sys.exit("--set goes with --valid: a recipe is measured as it stands")
    for name in LINES if "all" in asked.names else asked.names:
        measure(name, asked.data, asked.valid, asked.changes)


if __name__ == "__main__":
    main()
