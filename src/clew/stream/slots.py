"""The states of many streams, a row of each leaf for every one, and a step of some of them as batches of few sizes.

N streams that move, I inputs
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clew.errors import ClewError
from clew.stream.eager import EagerSteps
from clew.stream.recorder import Steps
from clew.stream.stepper import Stepper

SIZES = (1, 4, 16, 64, 256)  # of batches: their rows fit into the nearer caches


class Slots:
    """Args:
    first: the leaves of a state of one row.
    count: how many streams there may be.
    """

    def __init__(self, first: Sequence[np.ndarray], count: int) -> None:
        self.leaves = [np.zeros((count, *leaf.shape[1:]), leaf.dtype) for leaf in first]
        self._steps: dict[tuple[int, int], tuple[Steps, Stepper | EagerSteps]] = {}

    def write(self, slot: int, leaves: Sequence[np.ndarray]) -> None:
        for leaf, row in zip(self.leaves, leaves, strict=True):
            leaf[slot] = row[0]

    def read(self, slot: int) -> list[np.ndarray]:
        """A copy of the leaves of one stream."""
        return [leaf[slot][None].copy() for leaf in self.leaves]

    def move(self, model: Steps, places: np.ndarray, rows_NI: np.ndarray) -> np.ndarray:
        """What a model answers (N, ...) to one step of the streams at these places, which are all different."""
        at, N, answers = 0, len(places), None
        while at < N:
            size = _size(N - at)
            steps, count = self._of(model, size), min(size, N - at)
            these = places[at : at + count] if count > 1 else slice(places[at], places[at] + 1)  # which is quicker
            for ours, leaf in zip(steps.leaves, self.leaves, strict=True):
                ours[:count] = leaf[these]
            steps.x[:count] = rows_NI[at : at + count]
            steps.run()
            for ours, leaf in zip(steps.leaves, self.leaves, strict=True):
                leaf[these] = ours[:count]
            if answers is None:
                answers = np.empty((N, *steps.y.shape[1:]), steps.y.dtype)
            answers[at : at + count] = steps.y[:count]
            at += count
        assert answers is not None, "no stream moves"
        return answers

    def _of(self, model: Steps, size: int) -> Stepper | EagerSteps:
        key = id(model), size
        if key not in self._steps:
            try:
                self._steps[key] = model, Stepper(model, size)
            except ClewError:
                self._steps[key] = model, EagerSteps(model, size)
        return self._steps[key][1]


def _size(left: int) -> int:
    """The largest batch that is filled, or a larger one that is more than half filled."""
    more = [size for size in SIZES if left <= size < 2 * left]
    return more[0] if more else max(size for size in SIZES if size <= left)
