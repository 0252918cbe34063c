"""Parts that share nothing."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clew.data.balance import class_weights
from clew.data.split import grouped, key_of_array, same_input_keys, shared
from clew.errors import DataError


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=12, max_size=120), st.integers(0, 5), st.booleans())
def test_no_key_is_in_two_parts_and_none_is_lost(keys: list[int], seed: int, by_class: bool) -> None:
    strata = [key % 3 for key in keys] if by_class else None
    if len(set(keys)) < 6:
        keys = [*keys, *range(100, 106)]
        strata = [key % 3 for key in keys] if by_class else None
    parts = grouped(keys, 0.2, 0.2, seed, strata)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(keys)))
    sets = [{keys[i] for i in part} for part in parts]
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]
    assert all(len(part) for part in parts)
    again = grouped(keys, 0.2, 0.2, seed, strata)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    if strata is not None:
        assert {strata[i] for part in parts for i in part} == {strata[i] for i in parts[0]}, "what is held out is known"


@pytest.mark.parametrize("strata", [None, [i % 7 for i in range(1000)]])
def test_parts_are_as_large_as_asked(strata) -> None:
    train, valid, test = grouped(range(1000), 0.1, 0.2, 0, strata)
    assert (abs(len(valid) - 100) <= 7, abs(len(test) - 200) <= 7, len(train) + len(valid) + len(test)) == (
        True,
        True,
        1000,
    )
    if strata is not None:
        counts = np.bincount([strata[i] for i in test])
        assert counts.max() - counts.min() <= 3


def test_an_empty_part_is_one_that_nobody_asked_for() -> None:
    train, valid, test = grouped(range(50), 0.1, 0.0, 0)
    assert (len(train), len(valid), len(test)) == (45, 5, 0)
    with pytest.raises(DataError, match="2 different records cannot make 3 parts"):
        grouped(["a", "a", "b"], 0.1, 0.1, 0)


def test_keys() -> None:
    assert same_input_keys(["A  film\n", "a film"]) == ["a film", "a film"]
    a = np.zeros((2, 3))
    assert key_of_array(a) == key_of_array(a.copy()) != key_of_array(a.reshape(3, 2))
    assert shared(["a", "b"], ["b", "b", "c"]) == 2


def test_class_weights() -> None:
    assert class_weights(np.array([1, 3]), "balanced").tolist() == [2.0, pytest.approx(2 / 3)]
    assert class_weights(np.array([1, 3]), "none").tolist() == [1, 1]


KEYS = st.lists(st.integers(0, 30), min_size=3, max_size=120)


FRACTION = st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.44])


SEED = st.integers(0, 1000)


@given(KEYS, FRACTION, FRACTION, SEED, st.booleans())
@settings(deadline=None, max_examples=150)
def test_parts_are_whole_apart_and_repeatable(keys: list[int], valid: float, test: float, seed: int, classes: bool):
    assume(len(set(keys)) >= 3)
    strata = [str(3 * i % 7 % 3) for i in range(len(keys))] if classes else None
    parts = grouped(keys, valid, test, seed, strata)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(keys)))
    held = [{keys[i] for i in part} for part in parts]
    assert sum(map(len, held)) == len(set(keys))
    for part, fraction in zip(parts, (1.0, valid, test), strict=True):
        assert (len(part) > 0) == (fraction > 0)
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    for part, same in zip(parts, grouped(keys, valid, test, seed, strata), strict=True):
        np.testing.assert_array_equal(part, same)


@given(KEYS, FRACTION, FRACTION, SEED)
@settings(deadline=None, max_examples=80)
def test_parts_are_as_large_as_groups_allow(keys: list[int], valid: float, test: float, seed: int):
    assume(len(set(keys)) >= 3)
    largest = max(Counter(keys).values())
    for part, fraction in zip(grouped(keys, valid, test, seed), (1 - valid - test, valid, test), strict=True):
        assert abs(len(part) - fraction * len(keys)) < 2 * largest


@given(st.lists(st.sampled_from("aaaaaabbbc"), min_size=20, max_size=200), SEED)
@settings(deadline=None, max_examples=80)
def test_classes_are_spread_and_all_can_be_learned(strata: list[str], seed: int):
    counts = Counter(strata)
    train, valid, test = grouped(range(len(strata)), 0.1, 0.1, seed, strata)
    learned = {strata[i] for i in train}
    assert {strata[i] for i in [*valid, *test]} <= learned
    for part in (valid, test):
        found = Counter(strata[i] for i in part)
        assert all(abs(found[name] - 0.1 * counts[name]) <= 3 for name in counts)


def test_groups_with_answers_that_disagree_can_all_be_learned():
    keys = [i // 2 for i in range(60)]
    strata = ["a" if i % 2 == 0 or i < 50 else "rare" for i in range(60)]
    for seed in range(20):
        train, _, _ = grouped(keys, 0.2, 0.2, seed, strata)
        assert "rare" in {strata[i] for i in train}


def test_a_large_group_is_levelled_by_the_small():
    keys = [0] * 50 + list(range(1, 51))
    for seed in range(20):
        train, valid, test = grouped(keys, 0.1, 0.1, seed)
        assert set(train) >= set(range(50))
        assert (len(train), len(valid), len(test)) == (80, 10, 10)


def test_training_is_never_empty():
    for seed in range(10):
        assert [len(part) for part in grouped("abc", 0.44, 0.44, seed)] == [1, 1, 1]


def test_by_chance():
    chosen = {tuple(grouped(range(50), 0.1, 0.1, seed)[2].tolist()) for seed in range(20)}
    assert len(chosen) > 15


def test_many_records_are_quick():
    keys = np.random.default_rng(0).integers(0, 90_000, 100_000).tolist()
    assert sum(map(len, grouped(keys, 0.1, 0.1, 0, [key % 5 for key in keys]))) == 100_000


def test_the_same_numbers():
    values = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 0.0]])
    same = [values.copy(), np.asfortranarray(values), values.astype(np.int32), np.where(values == 0, -0.0, values)]
    assert {key_of_array(other) for other in same} == {key_of_array(values)}
    different = [values.T, values.reshape(3, 2), values + 1e-9, values.ravel()]
    assert len({key_of_array(other) for other in different} - {key_of_array(values)}) == 4


def test_class_weights_are_scikit_learns():
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    y = np.random.default_rng(0).integers(0, 4, 99)
    expected = sklearn.compute_class_weight("balanced", classes=np.arange(4), y=y)
    np.testing.assert_allclose(class_weights(np.bincount(y), "balanced"), expected)
