"""Metrics against numbers worked out by hand, and the same however the updates are cut."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.metrics import Classes, Numbers, Tags, Tokens, unigram
from clew.metrics.tags import is_bio, spans


def test_classes_by_hand() -> None:
    """Truth 0 0 1 2, answers 0 1 1 0; class 3 occurs nowhere and does not count."""
    p = np.full((4, 4), 0.1)
    p[[0, 1, 2, 3], [0, 1, 1, 0]] = 0.7
    metric = Classes(4)
    metric.update(np.array([0, 0, 1, 2]), p)
    result = metric.result()
    assert result["accuracy"] == 0.5
    assert result["macro_f1"] == pytest.approx((2 / 4 + 2 / 3 + 0) / 3)
    assert result["nll"] == pytest.approx(-(2 * math.log(0.7) + 2 * math.log(0.1)) / 4)
    assert metric.confusion[0].tolist() == [1, 1, 0, 0]


def test_classes_as_scikit_learn_has_them() -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    random = np.random.default_rng(0)
    truth, p = random.integers(0, 5, 200), random.dirichlet(np.ones(5), 200)
    metric = Classes(5)
    metric.update(truth, p)
    assert metric.result()["macro_f1"] == pytest.approx(sklearn.f1_score(truth, p.argmax(1), average="macro"))
    assert metric.result()["nll"] == pytest.approx(sklearn.log_loss(truth, p))


def test_a_class_without_probability_is_a_finite_surprise() -> None:
    metric = Classes(2)
    metric.update(np.array([1]), np.array([[1.0, 0.0]]))
    assert metric.result()["nll"] == pytest.approx(-math.log(1e-12))


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.integers(1, 29), st.floats(-1e6, 1e6))
def test_numbers_in_any_cut(values: list[float], cut: int, offset: float) -> None:
    truth = np.array(values) + offset
    predicted = truth + np.sin(np.arange(len(truth)))
    whole, parts = Numbers(), Numbers()
    whole.update(truth, predicted)
    for part in (slice(0, cut), slice(cut, None)):
        parts.update(truth[part], predicted[part])
    error = predicted - truth
    assert whole.result()["rmse"] == pytest.approx(math.sqrt((error**2).mean()), rel=1e-6)
    assert whole.result()["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-6)
    for name, value in whole.result().items():
        if name == "r2" and 0 < np.ptp(truth) < 1e-9 * np.abs(truth).max():
            continue  # numbers that differ in their last digits alone have a deviation of rounding
        assert parts.result()[name] == pytest.approx(value, rel=1e-6, abs=1e-6)
    if truth.std() > 1e-3 * max(1.0, abs(offset)):
        assert whole.result()["r2"] == pytest.approx(
            1 - (error**2).sum() / ((truth - truth.mean()) ** 2).sum(), rel=1e-4
        )


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O B-x I-x O", [("x", 1, 3)]),
        ("B-x B-x", [("x", 0, 1), ("x", 1, 2)]),
        ("I-x I-x O", [("x", 0, 2)]),
        ("B-x I-y", [("x", 0, 1), ("y", 1, 2)]),
        ("O O", []),
        ("B-x I-x", [("x", 0, 2)]),
        ("O I-x B-x I-x", [("x", 1, 2), ("x", 2, 4)]),
    ],
)
def test_entities(tags: str, found: list) -> None:
    assert spans(tags.split()) == found


def test_tags_by_hand() -> None:
    names = ["O", "B-x", "I-x", "B-y"]
    metric = Tags(names)
    metric.update([1, 2, 0, 3], [1, 2, 0, 1])  # one entity right, one of the wrong type
    metric.update([0, 1], [1, 2])  # B I for O B: found one, missed one
    result = metric.result()
    assert result["accuracy"] == 3 / 6
    assert (result["precision"], result["recall"], result["f1"]) == (1 / 3, 1 / 3, 1 / 3)
    assert Tags(["NOUN", "VERB"]).bio is False
    assert not is_bio(["O"])
    assert not is_bio(["B-x", "X"])


def test_tokens() -> None:
    metric = Tokens()
    metric.update(2 * math.log(8), 2)
    metric.update(2 * math.log(2), 2)
    assert metric.result() == pytest.approx({"nats": math.log(4), "bits": 2.0, "perplexity": 4.0})
    assert unigram(np.array([3, 1]), np.array([0, 1]), 0.0) == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)
    assert math.isfinite(unigram(np.array([3, 0]), np.array([1])))
