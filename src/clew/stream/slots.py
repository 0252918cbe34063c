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

    def move(self, model: Steps, places: Sequence[int] | np.ndarray, rows_NI: np.ndarray) -> np.ndarray:
        """What a model answers (N, ...) to one step of the streams at these places, which are all different."""
        if len(places) == 1:  # slices are quicker
            return self._move_few(self._of(model, 1), slice(places[0], places[0] + 1), rows_NI)
        places = np.asarray(places, dtype=np.intp)
        answers = []
        while (at := sum(map(len, answers))) < len(places):
            steps = self._of(model, _size(len(places) - at))
            these = slice(at, at + len(steps.x))
            answers.append(self._move_few(steps, places[these], rows_NI[these]))
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def _move_few(self, steps: Stepper | EagerSteps, places: slice | np.ndarray, rows_NI: np.ndarray) -> np.ndarray:
        """As many as one batch takes, or fewer."""
        N = len(rows_NI)
        for ours, leaf in zip(steps.leaves, self.leaves, strict=True):
            ours[:N] = leaf[places]
        steps.x[:N] = rows_NI
        steps.run()
        for ours, leaf in zip(steps.leaves, self.leaves, strict=True):
            leaf[places] = ours[:N]
        return steps.y[:N].copy()

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
