"""Series: scale, parts in time order, season and trend."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.data.series import Scaler, find_season, is_trending, split
from clew.data.sources import read_table
from clew.data.table import numeric
from clew.errors import DataError, RunError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def shared(path: str, column: str) -> np.ndarray:
    if not (SHARED / path).exists():
        pytest.skip(f"the data set {path} is not here")
    return numeric(read_table(SHARED / path), column)


def test_scaler_by_hand():
    values = np.array([[1.0, 5.0], [3.0, 5.0]])
    scaler = Scaler.fit(values)
    np.testing.assert_array_equal(scaler.mean, [2, 5])
    np.testing.assert_array_equal(scaler.std, [1, 1])
    np.testing.assert_array_equal(scaler.apply(values), [[-1, 0], [1, 0]])


def test_scaler_inverts_all_and_chosen_columns():
    values = np.random.default_rng(0).normal(50, 7, (40, 3))
    scaler = Scaler.fit(values)
    scaled = scaler.apply(values)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(0), 1)
    np.testing.assert_allclose(scaler.invert(scaled), values)
    np.testing.assert_allclose(scaler.invert(scaled[:, [2, 0]], [2, 0]), values[:, [2, 0]])


def test_a_constant_column_keeps_its_size_also_when_rounded():
    assert Scaler.fit(np.full((7, 1), 0.1)).std == 1
    assert Scaler.fit(np.zeros((7, 1))).std == 1


def test_scaler_as_json():
    scaler = Scaler.fit(np.random.default_rng(0).normal(size=(9, 2)))
    again = Scaler.from_json(json.loads(json.dumps(scaler.to_json())))
    np.testing.assert_array_equal(again.mean, scaler.mean)
    np.testing.assert_array_equal(again.std, scaler.std)


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"mean": [0.0]},
        {"mean": [0.0], "std": [1.0, 1.0]},
        {"mean": [0.0], "std": [0.0]},
        {"mean": [float("nan")], "std": [1.0]},
        {"mean": "x", "std": "y"},
        {"mean": [[0.0]], "std": [[1.0]]},
        {"mean": [10**400], "std": [1.0]},
        None,
    ],
)
def test_a_damaged_scaler_is_refused(saved):
    with pytest.raises(RunError, match="no scaler"):
        Scaler.from_json(saved)


@settings(deadline=None)  # others may keep the machine busy
@given(st.integers(10, 2000), st.floats(0.01, 0.44), st.floats(0.01, 0.44))
def test_parts_follow_each_other_and_leave_nothing_out(steps, valid, test):
    first, second, third = split(steps, valid, test)
    assert (first.start, first.stop, second.stop, third.stop) == (0, second.start, third.start, steps)
    assert first.stop > 0
    assert second.stop > second.start
    assert third.stop > third.start


def test_split_by_hand_and_too_short():
    assert split(100, 0.1, 0.2) == (slice(0, 70), slice(70, 80), slice(80, 100))
    with pytest.raises(DataError, match="at least 10"):
        split(9, 0.1, 0.1)


@pytest.mark.parametrize("part", [1.0, 0.8, 0.6])
@pytest.mark.parametrize("name", ["AirPassengers", "CO2", "nottem"])
def test_monthly_series_have_a_year(name, part):
    y = shared(f"forecast-classic/{name}.csv", "value")
    assert find_season(y[: int(part * len(y))]) == 12


def test_season_of_the_sample():
    co2 = numeric(read_table("sample:co2"), "co2")
    assert find_season(co2) == find_season(co2[:200]) == 12


def test_season_of_sunspots_is_about_eleven_years():
    assert 115 <= find_season(shared("forecast-classic/sunspot.month.csv", "value")) <= 140


def test_season_of_hourly_loads():
    assert find_season(shared("forecast-etth1/ETTh1.csv", "HUFL")) == 24


@pytest.mark.parametrize("seed", range(3))
def test_season_of_a_day_under_noise_and_a_weaker_week(seed):
    t, rng = np.arange(24 * 60), np.random.default_rng(seed)
    day = np.sin(2 * np.pi * t / 24) * (1 + 0.3 * ((t // 24) % 7 < 5))
    assert find_season(day + 0.3 * rng.standard_normal(len(t)) + 0.01 * t) == 24


def test_season_can_be_bounded():
    t = np.arange(400)
    assert find_season(np.sin(2 * np.pi * t / 24)) == 24
    assert find_season(np.sin(2 * np.pi * t / 24), longest=20) == 1


@pytest.mark.parametrize("n", [60, 300, 1000])
def test_noise_and_random_walks_rarely_have_a_season(n):
    rng = np.random.default_rng(1)
    found = [find_season(rng.standard_normal(n)) > 1 for _ in range(100)]
    assert np.mean(found) <= 0.03
    found = [find_season(rng.standard_normal(n).cumsum()) > 1 for _ in range(100)]
    assert np.mean(found) <= 0.1


@pytest.mark.parametrize(
    "values",
    [np.ones(50), np.arange(50.0), np.arange(50.0) ** 2, np.array([]), np.array([1.0, 2.0, 1.0])],
    ids=["constant", "line", "parabola", "empty", "three"],
)
def test_no_season(values):
    assert find_season(values) == 1


def test_is_trending():
    t = np.arange(120)
    wave = 10 * np.sin(2 * np.pi * t / 12)
    assert is_trending(0.2 * t)
    assert is_trending(0.1 * t + wave, 12), "the season is averaged out"
    assert not is_trending(wave, 12)
    assert not is_trending(np.random.default_rng(0).standard_normal(120))
    assert not is_trending(np.ones(120))
    assert not is_trending(np.array([1.0, 2.0]))
    assert is_trending(numeric(read_table("sample:co2"), "co2"), 12)
