"""Edits against the plain table, BLEU and chrF against hand and library, tours against what they must be."""

from __future__ import annotations

import math
import random
import sys
import time
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.errors import ConfigError
from clew.metrics.edits import Edits, edit_distance
from clew.metrics.sequences import Sequences
from clew.metrics.tours import length_ratio, tour_length

TOKENS = st.lists(st.integers(0, 3), max_size=12)


def by_table(a, b) -> int:
    """Wagner & Fischer 1974, a cell at a time."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


@settings(deadline=None, max_examples=200)
@given(TOKENS, TOKENS)
def test_edits_are_those_of_the_table(a, b):
    assert edit_distance(a, b) == edit_distance(b, a) == by_table(a, b)


@pytest.mark.parametrize(("m", "n"), [(63, 65), (64, 64), (65, 200), (128, 1), (300, 290)])
def test_edits_beyond_the_bits_of_a_word(m, n):
    draw = random.Random(m)
    a, b = draw.choices("abc", k=m), draw.choices("abc", k=n)
    assert edit_distance(a, b) == by_table(a, b)


@pytest.mark.parametrize(
    ("a", "b", "n"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("intention", "execution", 5),
        ("naïve 😀", "naive 😁", 2),
        ("e\u0301", "é", 2),  # letters as they are spelt, nothing is composed
        (["a", "b"], ("a", "b"), 0),
        (["New York"], ["New", "York"], 2),
    ],
)
def test_edits_by_hand(a, b, n):
    assert edit_distance(a, b) == n


def test_edits_of_a_test_set_and_of_long_texts_take_no_time():
    draw = random.Random(0)
    pairs = [(draw.choices(range(50), k=20), draw.choices(range(50), k=20)) for _ in range(12_000)]
    long = draw.choices("abcdefgh", k=1000), draw.choices("abcdefgh", k=1000)
    before = time.perf_counter()
    for pair in [*pairs, *[long] * 10]:
        edit_distance(*pair)
    assert time.perf_counter() - before < 3, "it takes 0.3 s on a machine that does nothing else"


def test_the_best_reference_counts():
    metric = Edits()
    metric.update(["abcd"], [["xxxx", "abc", "abcde"]])  # one edit to the last two, of which the longer counts
    assert metric.result() == {"token_error": 1 / 5, "exact": 0.0}
    metric.update([[1, 2]], [[[2, 1], [1, 2]]])
    assert metric.result() == {"token_error": 1 / 7, "exact": 0.5}


def test_edits_at_their_edges():
    metric = Edits()
    assert all(math.isnan(value) for value in metric.result().values())
    metric.update([], [])
    assert all(math.isnan(value) for value in metric.result().values())
    metric.update([""], [[""]])
    assert metric.result() == {"token_error": 0.0, "exact": 1.0}
    metric.update(["ab"], [[""]])
    assert metric.result() == {"token_error": math.inf, "exact": 0.5}
    metric.update([""], [["abcd"]])
    assert metric.result() == {"token_error": 6 / 4, "exact": 1 / 3}
    for wrong in ([[]], [["a"], ["b"]]):
        with pytest.raises((AssertionError, ValueError)):
            metric.update(["a"], wrong)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(TOKENS, st.lists(TOKENS, min_size=1, max_size=3)), min_size=1, max_size=8), st.integers(0, 8))
def test_edits_in_any_cut_and_order(rows, cut):
    whole, parts = Edits(), Edits()
    whole.update([row[0] for row in rows], [row[1] for row in rows])
    for part in (rows[cut:], rows[:cut][::-1]):
        parts.update([row[0] for row in part], [row[1] for row in part])
    assert whole.result() == parts.result()
    assert whole.result()["exact"] == sum(row[0] in row[1] for row in rows) / len(rows)


def test_without_sacrebleu_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ConfigError, match="sacrebleu") as caught:
        Sequences()
    assert "clew[text]" in str(caught.value.hint)


def test_an_unknown_tokenizer_is_refused():
    with pytest.raises(ConfigError, match="13b") as caught:
        Sequences(tokenize="13b")
    assert "13a" in str(caught.value.hint)


PREDICTED = ["the cat sat on the mat", "there is a dog", "", "naïve 😀 words", "a b c d e f"]
KNOWN = [
    ["the cat sat on a mat", "a cat was on the mat"],
    ["there is a dog"],
    ["nothing here"],
    ["naïve 😀 words!", "", "other words"],
    ["a b c d x f"],
]


@pytest.fixture
def library():
    return pytest.importorskip("sacrebleu", reason="needs sacrebleu, of the extra text")


@pytest.mark.usefixtures("library")
def test_bleu_by_hand():
    """One text of six words beside one of six with the fifth another: 5/6 words, 3/5 pairs, 2/4, 1/3."""
    metric = Sequences()
    metric.update(PREDICTED[4:], KNOWN[4:])
    result = metric.result()
    assert list(result) == ["bleu", "chrf", "token_error", "exact"]
    assert result["bleu"] == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4))
    assert (result["token_error"], result["exact"]) == (1 / 6, 0.0)
    perfect = Sequences()
    perfect.update(PREDICTED[:2], [PREDICTED[:1], PREDICTED[1:2]])
    assert perfect.result() == pytest.approx({"bleu": 100.0, "chrf": 100.0, "token_error": 0.0, "exact": 1.0})


def test_bleu_and_chrf_are_sacrebleus_of_the_corpus(library):
    """With one reference each through the library's plain functions; not the mean of the texts' own."""
    once = [known[0] for known in KNOWN]
    metric = Sequences()
    metric.update(PREDICTED, [[text] for text in once])
    result = metric.result()
    assert result["bleu"] == library.corpus_bleu(PREDICTED, [once]).score
    assert result["chrf"] == library.corpus_chrf(PREDICTED, [once]).score
    single = [library.sentence_bleu(*pair).score for pair in zip(PREDICTED, [[text] for text in once], strict=True)]
    assert abs(result["bleu"] - np.mean(single)) > 0.1


@pytest.mark.usefixtures("library")
def test_several_references_in_any_cut():
    whole = Sequences()
    whole.update(PREDICTED, KNOWN)
    first = Sequences()
    first.update(PREDICTED, [known[:1] for known in KNOWN])
    assert whole.result()["bleu"] > first.result()["bleu"]
    assert whole.result()["exact"] == first.result()["exact"] == 1 / 5
    assert whole.result()["token_error"] == (1 + 0 + 2 + 1 + 1) / (6 + 4 + 2 + 3 + 6)
    for cut in range(len(KNOWN) + 1):
        parts = Sequences()
        parts.update(PREDICTED[cut:], KNOWN[cut:])
        if cut < len(KNOWN):
            parts.result()  # a look in between changes nothing
        parts.update(PREDICTED[:cut], KNOWN[:cut])
        assert parts.result() == whole.result()
        assert parts.signatures == whole.signatures


@pytest.mark.usefixtures("library")
def test_signatures_say_how():
    metric = Sequences(tokenize="char")
    assert metric.signatures == {}
    assert all(math.isnan(value) for value in metric.result().values())
    metric.update(["a b"], [["a b"]])
    assert "nrefs:1|" in metric.signatures["bleu"]
    assert "tok:char" in metric.signatures["bleu"]
    assert metric.signatures["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0")
    metric.update(["a b"], [["a b", "a c"]])
    assert "nrefs:var|" in metric.signatures["bleu"]
    assert "version:" in metric.signatures["bleu"]


@pytest.mark.usefixtures("library")
def test_empty_and_foreign_texts_are_finite_and_unannounced(caplog):
    metric = Sequences(list)
    metric.update(["", "", "日本語"], [[""], ["x y"], ["日本語だ"]])
    metric.update(["words , cut ."] * 120, [["words , cut ."]] * 120)
    result = metric.result()
    assert all(math.isfinite(value) for value in result.values())
    assert result["token_error"] == (0 + 3 + 1) / (0 + 3 + 4 + 120 * len("words , cut ."))
    assert not caplog.records
    with pytest.raises(AssertionError):
        metric.update(["a"], ["a"])


SQUARE = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])


def test_tours_by_hand():
    points = np.stack([SQUARE] * 4)
    order = np.array([[0, 2, 1, 3], [0, 1, 2, 3], [0, 1, 1, 3], [0, 2, 1, -1]])
    best = np.array([[3, 1, 2, 0]] * 4)
    crossed = 2 + 2 * math.sqrt(2)
    assert tour_length(points, order).tolist() == pytest.approx([4, crossed, math.inf, math.inf])
    assert length_ratio(points, order, best).tolist() == pytest.approx([1, crossed / 4, math.inf, math.inf])
    assert length_ratio(points, order[:, :3], best).tolist() == [math.inf] * 4
    assert length_ratio(points * 0, order, best).tolist() == [1, 1, math.inf, math.inf]
    with pytest.raises(AssertionError):
        length_ratio(points, best, order)


def test_no_tour_is_shorter_than_the_best():
    points = np.random.default_rng(0).random((1, 6, 3))
    orders = np.array(list(permutations(range(6))))
    lengths = tour_length(np.repeat(points, len(orders), 0), orders)
    best = orders[[lengths.argmin()]]
    ratio = length_ratio(np.repeat(points, len(orders), 0), orders, np.repeat(best, len(orders), 0))
    assert ratio.min() == 1.0
    assert np.isclose(ratio, 1.0).sum() == 12, "six beginnings, two directions"
    np.testing.assert_allclose(ratio * lengths.min(), lengths)
