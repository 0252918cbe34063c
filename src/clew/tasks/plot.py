"""A picture of a forecast: the held-out tail, what the model said of it, and what the naive forecast did."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from clew.forecast import Plan, seasonal_naive
from clew.training.files import write_atomic

INK, OURS, NAIVE = "#222222", "#0b62a4", "#b5651d"  # told apart by line style and width too


def draw(file: Path, plan: Plan, cell: str, values_TC: np.ndarray, test: slice, forecasts: np.ndarray) -> None:
    """Draw the end of a series: one forecast every H steps of the held-out tail, each from all before it.

    Args:
        file: where to write, .svg or .png.
        cell: what made the forecasts.
        values_TC: the series in its own units, the target first.
        test: the held-out steps.
        forecasts: (O, H), from every H-th step of those.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed here

    H, target = plan.horizon, values_TC[:, 0]
    shown_from = max(0, test.start - max(2 * (test.stop - test.start), 3 * H))
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots()
    steps = np.arange(len(target))
    axes.plot(steps[shown_from:], target[shown_from:], color=INK, lw=1.0, label=f"{plan.columns[0]}, measured")
    for k, forecast in enumerate(forecasts):
        origin = test.start + k * H
        ahead = steps[origin : origin + H]
        naive = seasonal_naive(values_TC[:origin, :1], H, plan.season)[:, 0]
        first = k == 0
        axes.plot(ahead, naive, color=NAIVE, lw=1.1, ls=":", label="seasonal naive" if first else None)
        axes.plot(ahead, forecast, color=OURS, lw=2.0, label=f"{cell} forecast" if first else None)
        axes.axvline(origin - 0.5, color="#dddddd", lw=0.8, zorder=0)
    axes.axvspan(test.start - 0.5, len(target) - 0.5, color="#f4f6f8", zorder=-1)
    axes.set_xlim(shown_from, len(target) - 0.5)
    axes.set_xlabel("step")
    axes.set_ylabel(plan.columns[0])
    axes.set_title(f"{H} steps ahead, again from each grey line; shaded: held out of training", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left")
    picture = io.BytesIO()
    figure.savefig(picture, format=file.suffix.removeprefix("."), dpi=110)
    write_atomic(file, picture.getvalue())
