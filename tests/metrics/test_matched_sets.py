"""Sets against the best of all orders."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clew.metrics import Classes, MatchedSets, NamedSets


def test_the_best_of_all_orders() -> None:
    random, metric, total, pairs, right = np.random.default_rng(0), MatchedSets(), 0.0, 0, 0
    for _ in range(60):
        truth, found = (random.normal(size=(random.integers(0, 5), 3)) for _ in range(2))
        metric.update(truth, found)
        few, many = sorted((truth, found), key=len)
        orders = itertools.permutations(range(len(many)), len(few))
        total += min(sum(float(np.linalg.norm(few[i] - many[j])) for i, j in enumerate(order)) for order in orders)
        pairs, right = pairs + len(few), right + (len(truth) == len(found))
    assert metric.result() == {"matched_error": pytest.approx(total / pairs), "count": right / 60}
    assert metric.pairs == pairs
    assert all(math.isnan(value) for value in MatchedSets().result().values())
    astray = MatchedSets()
    astray.update(np.zeros((1, 2)), np.full((1, 2), math.nan))
    assert math.isnan(astray.result()["matched_error"])


def test_names() -> None:
    metric = NamedSets()
    metric.update(["a", "b"], ["b", "c"])
    metric.update([], [])
    metric.update(["a"], ["a", "a"])
    assert metric.result() == {
        "matched_error": pytest.approx(2 / 6),
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "exact": pytest.approx(2 / 3),
    }
    nothing = NamedSets()
    nothing.update([], [])
    assert nothing.result() == {"matched_error": 0.0, "precision": 0.0, "recall": 0.0, "exact": 1.0}
    assert all(math.isnan(value) for value in NamedSets().result().values())


def test_auc_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 300)
    p = np.round(0.3 * truth + random.random(300) * 0.7, 1)  # many are equal
    metric = Classes(2)
    for part in np.split(np.arange(300), 3):
        metric.update(truth[part], np.stack([1 - p[part], p[part]], 1))
    assert metric.result()["auc"] == pytest.approx(roc_auc_score(truth, p), abs=1e-12)
    alone = Classes(2)
    alone.update(np.zeros(4, int), np.full((4, 2), 0.5))
    assert "auc" not in alone.result()
