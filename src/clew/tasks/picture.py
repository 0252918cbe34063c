"""Pictures: where a decoder looked while it wrote, and what was drawn with a pen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clew.errors import ConfigError
from clew.training.files import write_atomic

MOST = 60  # units of a side that can be read
ACROSS = 10  # drawings that stand side by side


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


def draw_traces(file: Path, traces: Sequence[Sequence[Sequence[float]]], flags: Sequence[bool]) -> None:
    """Draw strokes side by side: of each step the first two numbers are how far the pen goes, the first flag is 1 where
    it is lifted behind it; y points down, as pens have it.

    Args:
        file: where to write, .svg or .png.
        traces: steps of numbers each.
        flags: which numbers of a step are flags.

    Raises:
        ConfigError: steps that have not two numbers.
    """
    from matplotlib.figure import Figure

    numbers = [i for i, flag in enumerate(flags) if not flag][:2]
    lifted = next((i for i, flag in enumerate(flags) if flag), None)
    if len(numbers) < 2:
        raise ConfigError("steps of one number draw no picture", hint="--out FILE.jsonl")
    across = min(len(traces), ACROSS)
    down = -(-len(traces) // across)
    figure = Figure(figsize=(1.1 * across + 0.2, 1.1 * down + 0.2), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, trace in zip(grid, traces, strict=False):
        steps = np.array(trace, dtype=np.float64).reshape(len(trace), -1)
        at = np.concatenate([np.zeros((1, 2)), np.cumsum(steps[:, numbers], 0)])
        # A step whose predecessor lifted the pen is made in the air, and so is the first.
        up = np.ones(len(steps), dtype=bool) if lifted is not None else np.zeros(len(steps), dtype=bool)
        if lifted is not None:
            up[1:] = steps[:-1, lifted] > 0
        line = np.insert(at[1:], np.flatnonzero(up), np.nan, axis=0) if len(steps) else at
        axes.plot(line[:, 0], line[:, 1], color="#1f2933", lw=1.4, solid_capstyle="round")
        axes.set_aspect("equal", adjustable="datalim")
        axes.invert_yaxis()
    picture = io.BytesIO()
    figure.savefig(picture, format=file.suffix.removeprefix("."), dpi=110)
    write_atomic(file, picture.getvalue())


def _shown(unit: str) -> str:
    """A unit as it can be seen: a blank is drawn, and a dollar sign starts no formula."""
    return unit.replace(" ", "␣").replace("\n", "↵").replace("$", r"\$")
