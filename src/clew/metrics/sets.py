"""How near predicted sets are to true ones, whatever their order."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable

import numpy as np


class MatchedSets:
    """Accumulates a set of vectors at a time.

    matched_error  the mean distance of an element to the one that the best matching gives it
    count          the share of sets with as many elements as they should have
    """

    def __init__(self) -> None:
        self._distances: list[float] = []
        self._sets = self._right = 0

    def update(self, truth_ND: np.ndarray, predicted_MD: np.ndarray) -> None:
        """Add a set of N elements for which M were predicted; min(N, M) of them have a partner."""
        from scipy.optimize import linear_sum_assignment  # slow to import, and few runs need it

        far_NM = np.linalg.norm(truth_ND[:, None] - predicted_MD[None], axis=-1)
        rows, columns = linear_sum_assignment(np.nan_to_num(far_NM))  # a prediction that ran away scores NaN
        self._distances.extend(far_NM[rows, columns].tolist())
        self._sets, self._right = self._sets + 1, self._right + (len(truth_ND) == len(predicted_MD))

    @property
    def pairs(self) -> int:
        """Elements that had a partner."""
        return len(self._distances)

    def result(self) -> dict[str, float]:
        """matched_error (NaN where no element had a partner) and count; NaN when nothing was added."""
        error = math.fsum(self._distances) / len(self._distances) if self._distances else math.nan
        return {"matched_error": error, "count": self._right / self._sets if self._sets else math.nan}


class NamedSets:
    """Accumulates a set of names at a time.

    matched_error        the share of names that are in one of the two sets alone: missed + false / true + found
    precision, recall    of names
    exact                the share of sets that are right
    """

    def __init__(self) -> None:
        self._both = self._true = self._found = self._sets = self._right = 0

    def update(self, truth: Collection[Hashable], predicted: Collection[Hashable]) -> None:
        true, found = set(truth), set(predicted)
        self._both, self._true = self._both + len(true & found), self._true + len(true)
        self._found, self._sets = self._found + len(found), self._sets + 1
        self._right += true == found

    def result(self) -> dict[str, float]:
        """matched_error, precision, recall, exact; NaN when nothing was added."""
        if not self._sets:
            return dict.fromkeys(("matched_error", "precision", "recall", "exact"), math.nan)
        total = self._true + self._found
        error = (total - 2 * self._both) / total if total else 0.0
        precision = self._both / self._found if self._found else 0.0
        recall = self._both / self._true if self._true else 0.0
        return {
            "matched_error": error,
            "precision": precision,
            "recall": recall,
            "exact": self._right / self._sets,
        }
