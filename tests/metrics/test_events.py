"""Events found near true ones: as many as any pairing has."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from clew.metrics import Events
from clew.metrics.events import matched


@pytest.mark.parametrize("seed", range(30))
def test_no_pairing_has_more(seed: int) -> None:
    r = random.Random(seed)
    truth, found = (sorted(r.sample(range(60), r.randint(0, 15))) for _ in range(2))
    near = np.array([[abs(a - b) <= 3 for b in found] for a in truth], dtype=float).reshape(len(truth), len(found))
    rows, columns = linear_sum_assignment(-near)
    pairs = matched(truth, found, 3)
    assert len(pairs) == near[rows, columns].sum()
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    assert all(abs(a - b) <= 3 for a, b in pairs)


def test_scores() -> None:
    metric = Events(2)
    metric.update([5, 20], [6, 8, 19, 40])
    metric.update([3], [])
    assert metric.result() == {"f1": 4 / 7, "precision": 0.5, "recall": 2 / 3, "delay": 0.0}
    nothing = Events(2)
    nothing.update([], [1])
    assert nothing.result() == {"f1": 0.0, "precision": 0.0, "recall": 0.0}
