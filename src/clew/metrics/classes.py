"""How often the likeliest class is the right one, and how much probability the right one has."""

from __future__ import annotations

import math

import numpy as np

LEAST = 1e-12  # a probability of 0 would be an infinite surprise


class Classes:
    """Accumulates N answers at a time.

    accuracy    the share of right answers
    macro_f1    the mean over classes that occur, in truth or answer, of 2 hits / (true + answered)
    nll         the mean of -ln p(right class), nats; a p below 1e-12 counts as 1e-12
    auc         of two classes that both occur: the probability that one of the second has a higher p of it than one of
                the first, half where they are equal (the area under the ROC curve: Hanley & McNeil 1982)
    """

    def __init__(self, classes: int) -> None:
        self.confusion = np.zeros((classes, classes), dtype=np.int64)  # rows are the truth
        self._nats: list[float] = []
        self._second: tuple[list[float], list[float]] = [], []  # p of the second of two, by the right one

    def update(self, truth_N: np.ndarray, probabilities_NK: np.ndarray) -> None:
        """Add N right classes and what was thought of each of the K."""
        np.add.at(self.confusion, (truth_N, probabilities_NK.argmax(1)), 1)
        right = probabilities_NK[np.arange(len(truth_N)), truth_N].astype(np.float64)
        self._nats.extend((-np.log(right.clip(LEAST, 1.0))).tolist())
        if len(self.confusion) == 2:
            for i, known in enumerate(self._second):
                known.extend(probabilities_NK[truth_N == i, 1].astype(np.float64).tolist())

    def result(self) -> dict[str, float]:
        """accuracy, macro_f1, nll, and auc where there is one; NaN when nothing was added."""
        n, hits = int(self.confusion.sum()), np.diag(self.confusion)
        if n == 0:
            return dict.fromkeys(("accuracy", "macro_f1", "nll"), math.nan)
        sums = self.confusion.sum(0) + self.confusion.sum(1)
        seen = sums > 0
        f1 = float((2 * hits[seen] / sums[seen]).mean())
        auc = {"auc": _auc(*self._second)} if all(self._second) else {}
        return {"accuracy": int(hits.sum()) / n, "macro_f1": f1, "nll": math.fsum(self._nats) / n, **auc}


def _auc(first: list[float], second: list[float]) -> float:
    """The share of pairs that stand in the right order."""
    below = np.searchsorted(np.sort(first), second, "left") + np.searchsorted(np.sort(first), second, "right")
    return float(below.sum()) / (2 * len(first) * len(second))
