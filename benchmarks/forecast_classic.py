"""CO2 and the monthly sunspot numbers: the last 5% by rolling origin, both modes, against the naive forecasts.

python benchmarks/forecast_classic.py [FOLDER]     FOLDER holds CO2.csv and sunspot.month.csv
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from result import ROOT, commit, write

import clew

SEEDS = [0, 1, 2]
RECIPES = {"CO2": "co2.toml", "sunspot.month": "sunspots.toml"}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data" / "forecast-classic"
    if not folder.is_dir():
        sys.exit("needs the folder of CO2.csv and sunspot.month.csv as its argument")
    measured, began, figure, met = commit(), time.monotonic(), {}, True
    for name, recipe in RECIPES.items():
        for mode in ("iterative", "direct"):
            with tempfile.TemporaryDirectory() as out:
                runs = [
                    clew.train(
                        folder / f"{name}.csv",
                        Path(out) / str(seed),
                        recipe=ROOT / "recipes" / recipe,
                        mode=mode,
                        seed=seed,
                        progress=False,
                    )
                    for seed in SEEDS
                ]
            mase = [run["metrics"]["mase"] for run in runs]
            naive = {name: metrics["mase"] for name, metrics in runs[0]["baseline"].items()}
            figure[f"{name}, {mode}"] = {
                "mase": mase,
                "naive": naive,
                "origins": runs[0]["n"],
                "horizon": runs[0]["horizon"],
                "season": runs[0]["season"],
                "seconds": [run["seconds"] for run in runs],
            }
            met = met and max(mase) < naive["seasonal_naive"]
            print(f"{name:14} {mode:10}", *(f"{m:.3f}" for m in mase), {k: round(v, 3) for k, v in naive.items()})
    write(
        "2/forecast_classic",
        "sunspot.month and CO2, last 5% by rolling origin, iterative and direct",
        seeds=SEEDS,
        figure=figure,
        bar="mase below the seasonal naive forecast's, every seed",
        met=met,
        measured=measured,
        seconds=round(time.monotonic() - began, 1),
    )


if __name__ == "__main__":
    main()
