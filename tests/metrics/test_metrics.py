"""Metrics at their edges: nothing added, what ran away, what never changes; and against those who had them first."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.metrics import Classes, Numbers, Tags, Tokens, unigram
from clew.metrics.tags import is_bio, spans


@pytest.mark.parametrize("empty", [Classes(3), Numbers(), Tags(["O", "B-x"]), Tags(["a"]), Tokens()])
def test_nothing_added_is_nan(empty):
    result = empty.result()
    assert result
    assert all(math.isnan(value) for value in result.values())


def answers(rng: np.random.Generator, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(0, k - 1, n), rng.dirichlet(np.ones(k), n)  # the last class is never right


@pytest.mark.parametrize("seed", range(5))
def test_classes_are_scikit_learns(seed: int):
    sklearn = pytest.importorskip("sklearn.metrics")
    truth, p = answers(np.random.default_rng(seed), 40, 6)
    metric = Classes(6)
    metric.update(truth, p)
    answer, labels = p.argmax(1), list(range(6))
    np.testing.assert_array_equal(metric.confusion, sklearn.confusion_matrix(truth, answer, labels=labels))
    expected = {
        "accuracy": sklearn.accuracy_score(truth, answer),
        "macro_f1": sklearn.f1_score(truth, answer, average="macro"),
        "nll": sklearn.log_loss(truth, p, labels=labels),
    }
    assert metric.result() == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 99), st.integers(0, 30))
@settings(deadline=None, max_examples=50)
def test_classes_in_pieces(seed: int, cut: int):
    truth, p = answers(np.random.default_rng(seed), 30, 4)
    whole, pieces = Classes(4), Classes(4)
    whole.update(truth, p)
    pieces.update(truth[cut:], p[cut:])
    pieces.update(truth[:cut], p[:cut])
    assert pieces.result() == whole.result()


def test_numbers_by_hand():
    metric = Numbers()
    metric.update(np.array([1.0, 2.0, 6.0]), np.array([2.0, 2.0, 4.0]))
    assert metric.result() == pytest.approx({"rmse": math.sqrt(5 / 3), "mae": 1.0, "r2": 1 - 5 / 14})


@given(st.integers(0, 99), st.integers(0, 50), st.sampled_from([0.0, 1.0, 1e6]))
@settings(deadline=None, max_examples=50)
def test_numbers_in_pieces_are_scikit_learns(seed: int, cut: int, far: float):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    truth = rng.normal(far, 2, 50)
    predicted = truth + rng.normal(0, 1, 50)
    metric = Numbers()
    metric.update(truth[:cut], predicted[:cut])
    metric.update(truth[cut:], predicted[cut:])
    expected = {
        "rmse": sklearn.root_mean_squared_error(truth, predicted),
        "mae": sklearn.mean_absolute_error(truth, predicted),
        "r2": sklearn.r2_score(truth, predicted),
    }
    assert metric.result() == pytest.approx(expected, rel=1e-7)


def test_equal_numbers_have_no_r2_also_when_rounded():
    metric = Numbers()
    for _ in range(10):
        metric.update(np.full(7, 0.1), np.full(7, 0.3))
    assert metric.result() == pytest.approx({"rmse": 0.2, "mae": 0.2, "r2": 0.0})


def test_short_floats_are_summed_in_long_ones():
    metric = Numbers()
    metric.update(np.full(3, 2.0**24, dtype=np.float32), np.full(3, 2.0**24 + 2, dtype=np.float32))
    metric.update(np.array([0], dtype=np.int64), np.array([1e30], dtype=np.float32))
    assert metric.result()["rmse"] == pytest.approx(float(np.float32(1e30)) / 2)


def test_a_prediction_that_ran_away_is_unannounced():
    metric = Numbers()
    metric.update(np.array([0.0, 1.0]), np.array([1e200, 0.0]))
    assert metric.result()["rmse"] == math.inf
    assert metric.result()["r2"] == -math.inf
    metric.update(np.array([1.0]), np.array([math.nan]))
    assert math.isnan(metric.result()["mae"])


@given(st.lists(st.sampled_from(["O", "B-x", "I-x", "B-y", "I-y"]), max_size=20))
@settings(deadline=None)
def test_spans_are_conlleval(tags: list[str]):
    """The begin and end rules of conlleval.pl (Tjong Kim Sang & Buchholz 2000), as they stand there."""
    begins, ends = [], []
    for t, (last, now) in enumerate(zip(["O", *tags], [*tags, "O"], strict=True)):
        other = last[2:] != now[2:]
        if last != "O" and (now[0] in "BO" or other):
            ends.append(t)
        if now != "O" and (now[0] == "B" or last == "O" or other):
            begins.append(t)
    assert spans(tags) == [(tags[i][2:], i, j) for i, j in zip(begins, ends, strict=True)]


def test_no_entity_is_0():
    metric = Tags(["O", "B-x"])
    metric.update([0], [0])
    assert metric.result() == {"accuracy": 1.0, "f1": 0.0, "precision": 0.0, "recall": 0.0}


def test_tags_that_are_not_bio_have_an_accuracy():
    metric = Tags(["NOUN", "VERB"])
    metric.update([0, 1, 1], [0, 1, 0])
    assert metric.result() == pytest.approx({"accuracy": 2 / 3})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["O", "B-PER", "I-PER"], True),
        (["B-x", "I-x"], True),
        (["I-x", "O"], True),
        (["O"], False),
        (["O", "B-"], False),
        (["O", "B-x", "NOUN"], False),
        ([], False),
    ],
)
def test_is_bio(names: list[str], expected: bool):
    assert is_bio(names) is expected


def test_tokens():
    metric = Tokens()
    metric.update(3 * math.log(2), 1)
    metric.update(math.log(2), 1)
    assert metric.result() == pytest.approx({"nats": 2 * math.log(2), "bits": 2.0, "perplexity": 4.0})
    metric.update(1e9, 1)
    assert math.isfinite(metric.result()["perplexity"])


def test_unigram():
    counts = np.array([0, 1, 2])
    assert unigram(counts, np.array([1, 2]), smoothing=0.0) == pytest.approx(-(math.log(1 / 3) + math.log(2 / 3)) / 2)
    assert unigram(counts, np.array([0])) == pytest.approx(math.log(6))
    assert unigram(np.zeros(4), np.array([3, 1])) == pytest.approx(math.log(4))
    assert math.isnan(unigram(counts, np.array([], dtype=np.int32)))
