"""What a forecast needs to know of its series: season, horizon, window, the naive forecast to correct, scales.

T time, C columns (the target first)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from clew.config import Recipe
from clew.data.series import Scaler, find_season, is_trending, split
from clew.errors import ConfigError, DataError, read_back

LONGEST = 1_000_000  # steps of a season, horizon or window: what a file may ask memory for


@dataclass(frozen=True)
class Plan:
    """What was found from the training part: enough to build the model again."""

    columns: list[str]
    season: int
    horizon: int
    window: int
    lag: int
    levels: bool
    scaler: Scaler

    def to_json(self) -> dict[str, Any]:
        return {**{k: getattr(self, k) for k in self.__dataclass_fields__ if k != "scaler"}, **self.scaler.to_json()}

    @classmethod
    def from_json(cls, saved: dict[str, Any], file: object) -> Plan:
        with read_back(file):
            kinds = {"season": int, "horizon": int, "window": int, "lag": int, "levels": bool}
            parts = {name: saved[name] for name in kinds}
            if any(type(parts[name]) is not kind for name, kind in kinds.items()):
                raise TypeError("a number is not of its kind")
            columns = [str(name) for name in saved["columns"]]
            plan = cls(columns, **parts, scaler=Scaler.from_json(saved))
            if not len(columns) == len(plan.scaler.mean) >= 1:
                raise ValueError("as many means as columns")
            if not (
                0 <= plan.lag <= LONGEST and all(1 <= parts[n] <= LONGEST for n in ("season", "horizon", "window"))
            ):
                raise ValueError(f"steps between 1 and {LONGEST:,}")
            return plan


def make_plan(
    recipe: Recipe, names: list[str], series: list[np.ndarray], files: list[str]
) -> tuple[Plan, list[np.ndarray]]:
    """Find season, horizon, scales, window and anchor from the training part of the series; the plan and those parts.

    Raises:
        DataError: a series is too short for what is asked.
    """
    parts, held_out = [], []
    for values, file in zip(series, files, strict=True):
        try:
            train, valid, test = split(len(values), *held_out_fractions(recipe))
        except DataError as error:
            raise DataError(error.what, file=file, hint=error.hint) from error
        parts.append(values[train])
        held_out.append(min(valid.stop - valid.start, test.stop - test.start))
    longest, shortest = max(parts, key=len), int(np.argmin(held_out))
    season = recipe.data.season or find_season(longest[:, 0])
    horizon = recipe.data.horizon or min(min(season, 24) if season > 1 else 12, held_out[shortest])
    if held_out[shortest] < horizon:
        raise DataError(
            f"the horizon of {horizon} steps is longer than the {held_out[shortest]} steps held out of"
            f" {len(series[shortest])}",
            file=files[shortest],
            hint=f"use --horizon {held_out[shortest]} or less, more data, or a larger data.valid and data.test",
        )
    lag = _anchor(recipe.data.anchor, season, horizon, parts)
    thin = int(np.argmin([len(part) for part in parts]))
    if lag >= len(parts[thin]):
        raise DataError(
            f"the season of {lag} steps is longer than the training part of {len(parts[thin])}",
            file=files[thin],
            hint="set data.season to a shorter one, or data.anchor=last",
        )
    ahead = 1 if recipe.model.mode == "iterative" else horizon
    asked = 0 if recipe.train.window == "auto" else recipe.train.window
    window = asked or max(
        2, min(max(int(np.clip(3 * season, 48, 192)), lag + max(24, ahead)), len(longest) - ahead - 1)
    )
    if lag >= window:
        raise ConfigError(
            f"a window of {window} steps is no longer than the season of {lag}, so that nothing in it can be learned",
            hint=f"train.window = {lag + max(24, ahead)}, or data.anchor = last" if asked else "data.anchor = last",
        )
    levels = not any(is_trending(part[:, column], season) for part in parts for column in range(len(names)))
    return Plan(names, season, horizon, window, lag, levels, Scaler.fit(np.concatenate(parts))), parts


def _anchor(choice: str, season: int, horizon: int, parts: list[np.ndarray]) -> int:
    """The lag of the naive forecast to start from: of the last value and the season, the one nearer in training."""
    if choice != "auto" or season <= 1:
        return {"none": 0, "season": season}.get(choice, 1)
    errors = {}
    for lag in (1, season):
        gaps = [
            np.abs(part[season + k :, 0] - part[season + k - lag * -(-k // lag) : len(part) - lag * -(-k // lag), 0])
            for part in parts
            for k in range(1, horizon + 1)
            if len(part) > season + k
        ]
        errors[lag] = np.concatenate(gaps).mean() if gaps else 0.0
    return min(errors, key=lambda lag: errors[lag])


def held_out_fractions(recipe: Recipe) -> tuple[float, float]:
    """Of each series, its end held out for validation and test."""
    return float(recipe.data.valid), float(recipe.data.test)
