"""How many events are found, and how long after they begin."""

from __future__ import annotations

import math
from collections.abc import Sequence


class Events:
    """Accumulates a sequence at a time. A found event is right where a true one that no other has stands at most
    `tolerance` steps from it.

    precision    right / found
    recall       right / true
    f1           2 right / (found + true)
    delay        mean of found step - true step over those that are right; not there where none is
    """

    def __init__(self, tolerance: int) -> None:
        self.tolerance = tolerance
        self._true = self._found = 0
        self._delays: list[int] = []

    def update(self, truth: Sequence[int], found: Sequence[int]) -> None:
        """Add the steps of one sequence's events, in order."""
        self._true, self._found = self._true + len(truth), self._found + len(found)
        self._delays += [b - a for a, b in matched(truth, found, self.tolerance)]

    def result(self) -> dict[str, float]:
        """f1, precision, recall (0 where there is nothing to share), and delay."""
        right = len(self._delays)
        scores = {
            "f1": 2 * right / max(1, self._found + self._true),
            "precision": right / max(1, self._found),
            "recall": right / max(1, self._true),
        }
        return {**scores, "delay": math.fsum(self._delays) / right} if right else scores


def matched(truth: Sequence[int], found: Sequence[int], tolerance: int) -> list[tuple[int, int]]:
    """As many pairs of a true step and a found one at most `tolerance` apart as there can be, each step in one.

    Both in order. The earliest that are near enough are taken first: no other choice leaves more for those behind.
    """
    pairs, i, j = [], 0, 0
    while i < len(truth) and j < len(found):
        if abs(truth[i] - found[j]) <= tolerance:
            pairs.append((truth[i], found[j]))
            i, j = i + 1, j + 1
        elif truth[i] < found[j]:
            i += 1
        else:
            j += 1
    return pairs
