"""Parts that share nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
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
