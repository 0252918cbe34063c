"""Races between ways to the same numbers, in one process and in turns, because machines are shared and noisy.

Each turn has its own order, and before a runner is timed it has a pause and runs once: libraries leave threads behind
that wait for work and hold a core for a while, and in a loop a runner finds its own caches and threads warm.

A runner is a function without arguments that works and returns its numbers. Numbers are compared first: where they
differ nothing is timed. What is quoted is the median of ratios, each between two times of the same turn.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Numbers = list[np.ndarray]
PAUSE = 0.01  # seconds


class Differ(Exception):
    """Two runners that should give the same numbers do not."""


def check(runners: Mapping[str, Callable[[], Numbers]], tolerance: float) -> dict[str, float]:
    """The largest difference of each runner's numbers from the first one's, as a part of the largest number.

    Raises:
        Differ: it is over the tolerance, or shapes differ.
    """
    (first, run), *others = runners.items()
    expected, found = run(), {}
    for name, other in others:
        worst = 0.0
        for a, b in zip(expected, other(), strict=True):
            if a.shape != b.shape:
                raise Differ(f"{name} gives {b.shape} where {first} gives {a.shape}")
            worst = max(worst, float(np.abs(a - b).max() / max(1e-6, np.abs(a).max())))
        if not worst <= tolerance:
            raise Differ(f"{name} differs from {first} by {worst:.2e}")
        found[name] = worst
    return found


def turns(runners: Mapping[str, Callable[[], Any]], seconds: float, least: int = 5, most: int = 60) -> dict[str, Any]:
    """Seconds of each runner, turn by turn, for about so many seconds in all; the first turn is not counted."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    ends = time.perf_counter() + seconds
    turn, order = 0, random.Random(0)
    while turn <= least or (time.perf_counter() < ends and turn <= most):
        for name, run in order.sample(list(runners.items()), len(runners)):
            time.sleep(PAUSE)
            run()
            began = time.perf_counter()
            result = run()
            took = time.perf_counter() - began
            del result  # freeing a graph is not part of the next one's time
            if turn:
                times[name].append(took)
        turn += 1
    return times


def ratio(times: Mapping[str, list[float]], ours: str, theirs: str) -> float:
    """How many times faster ours is: the median over the turns."""
    return statistics.median(b / a for a, b in zip(times[ours], times[theirs], strict=True))


def spread(times: Mapping[str, list[float]], ours: str, theirs: str) -> list[float]:
    """The quarters of those ratios."""
    ratios = [b / a for a, b in zip(times[ours], times[theirs], strict=True)]
    return [round(float(q), 3) for q in np.quantile(ratios, [0.25, 0.75])]


def geometric_mean(values: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))
