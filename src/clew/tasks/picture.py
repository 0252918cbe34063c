"""A picture of where a decoder looked while it wrote."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clew.training.files import write_atomic

MOST = 60  # units of a side that can be read


def draw_alignments(file: Path, found: Sequence[tuple[Sequence[str], Sequence[str], np.ndarray]]) -> None:
    """Draw heat maps, one below the other: the source from left to right, what was written from top to bottom.

    Args:
        file: where to write, .svg or .png.
        found: units of a source (S), of a target (T), and weights (T, S); long ones are cut off.
    """
    from matplotlib.figure import Figure  # slow to import, and only needed here

    found = [(source[:MOST], target[:MOST], weights[:MOST, :MOST]) for source, target, weights in found]
    tall = [0.24 * len(target) + 1.0 for _, target, _ in found]
    wide = max((0.24 * len(source) for source, _, _ in found), default=1.0) + 2.4
    figure = Figure(figsize=(max(4.0, wide), sum(tall) + 0.4), layout="constrained")
    grid = figure.subplots(len(found), 1, height_ratios=tall, squeeze=False)[:, 0]
    for axes, (source, target, weights) in zip(grid, found, strict=True):
        shown = axes.imshow(weights, cmap="Greys", vmin=0.0, vmax=1.0, aspect="equal", interpolation="nearest")
        slanted = any(len(unit) > 2 for unit in source)
        axes.set_xticks(range(len(source)), [_shown(unit) for unit in source], rotation=60 if slanted else 0)
        axes.set_yticks(range(len(target)), [_shown(unit) for unit in target])
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=9)
        axes.set_xticks(np.arange(len(source) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(target) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#e4e7ea", lw=0.5)
        axes.tick_params(which="minor", length=0)
        axes.spines[:].set_visible(False)
        if axes is grid[0]:
            figure.colorbar(shown, ax=list(grid), shrink=0.6, pad=0.02, label="weight")
    picture = io.BytesIO()
    figure.savefig(picture, format=file.suffix.removeprefix("."), dpi=110)
    write_atomic(file, picture.getvalue())


def _shown(unit: str) -> str:
    """A unit as it can be seen: a blank is drawn, and a dollar sign starts no formula."""
    return unit.replace(" ", "␣").replace("\n", "↵").replace("$", r"\$")
