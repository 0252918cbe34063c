"""How many edits lie between two sequences of anything that can be compared: tokens, tags, places in a source."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The fewest insertions, deletions and substitutions that make a sequence of the other (Levenshtein's distance).

    Bit-parallel, a column of the table at a time (Myers 1999, J. ACM 46(3); in the form of Hyyrö 2003, "A bit-vector
    algorithm for computing Levenshtein and Damerau edit distances", fig. 3): the differences between neighbours in a
    column are -1, 0 or 1, and two whole numbers of `len(a)` bits hold where they are 1 and where -1.
    """
    if not a or not b:
        return max(len(a), len(b))
    places: dict[Hashable, int] = {}  # of each token of a, as bits
    for i, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << i
    distance, ones = len(a), (1 << len(a)) - 1
    last = 1 << (len(a) - 1)
    up, down = ones, 0
    for token in b:
        same = places.get(token, 0)
        level = ((((same & up) + up) ^ up) | same | down) & ones  # where the diagonal costs nothing
        right_up, right_down = down | (ones & ~(level | up)), up & level
        distance += bool(right_up & last) - bool(right_down & last)
        right_up, right_down = (right_up << 1 | 1) & ones, (right_down << 1) & ones
        up, down = right_down | (ones & ~(level | right_up)), right_up & level
    return distance


class Edits:
    """Accumulates sequences beside what they should have been; of several references the best counts.

    token_error    edits / tokens of the references, over all sequences together; it can be above 1
    exact          the share of predictions that equal a reference

    The best reference has the fewest edits; of several, the longest.
    """

    def __init__(self) -> None:
        self._n = self._exact = self._edits = self._tokens = 0

    def update(
        self, predictions: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Sequence[Hashable]]]
    ) -> None:
        """Add N predictions, lists of tokens, and of each its references, one or more such lists."""
        for predicted, known in zip(predictions, references, strict=True):
            assert len(known), "each prediction needs a reference"
            found = [(edit_distance(predicted, reference), len(reference)) for reference in known]
            edits, tokens = min(found, key=lambda one: (one[0], -one[1]))
            self._n, self._exact = self._n + 1, self._exact + (edits == 0)
            self._edits, self._tokens = self._edits + edits, self._tokens + tokens

    def result(self) -> dict[str, float]:
        """token_error, exact; NaN when nothing was added. Edits where no reference holds a token are an error of
        infinity."""
        if self._n == 0:
            return dict.fromkeys(("token_error", "exact"), math.nan)
        error = self._edits / self._tokens if self._tokens else math.inf if self._edits else 0.0
        return {"token_error": error, "exact": self._exact / self._n}
