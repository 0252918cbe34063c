"""Forecast: a table with numeric columns in, the next H values of its target out.

read         the target and the input columns of each source, one series a source, in time order
model        a stack of recurrences that corrects a naive forecast (`models.anchored`), fed its own predictions
             ("iterative") or giving all H steps at once ("direct")
baselines    the seasonal naive forecast and the last value
metrics      mae, rmse, smape, mase over every origin of the held-out tail (rolling origin)
predictions  one row a step ahead

T time, C columns (the target first), H horizon, N targets
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clew.config import Recipe
from clew.data.inputs import numbers_of
from clew.data.series import Scaler, find_season, is_trending, split
from clew.data.table import Table, column_name, guess_target, numeric
from clew.data.windows import Windows
from clew.errors import ConfigError, DataError, RunError
from clew.forecast import BASELINES, direct, iterate, rolling_origin
from clew.metrics import Forecast, seasonal_scale
from clew.models import Single, body_of, forecaster
from clew.tasks import plot
from clew.tasks.base import Cells, Heard, Job, Predictions, Scores, say, window_of
from clew.tasks.guess import series_target
from clew.tree import State

DEFAULTS: dict[str, dict[str, Any]] = {}
UNUSED = (
    "data.group",
    "data.channels",
    "data.source_unit",
    "data.lowercase",
    "data.min_count",
    "data.vocabulary",
    "model.bidirectional",
    "model.embedding",
    "model.word_dropout",
    "model.pooling",
    "train.stride",
    "train.supervise",
    "train.label_smoothing",
    "train.class_weights",
)
STEPS, VALIDATE_EVERY = 600, 25
LONGEST = 1_000_000  # steps of a season, horizon or window: what a file may ask memory for
MOST_ORIGINS = {"valid": 100, "test": 500}  # validation runs often; a test of 500 origins is precise enough


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
        try:
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
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"does not hold what this run needs: {error}", file=file, hint="train it again") from error


class Forecaster:
    """A model with what was found from its training part: raw numbers in, raw numbers out."""

    reads_text = reads_line_ends = False

    def __init__(self, model: Single, plan: Plan, iterative: bool) -> None:
        self.model, self.plan, self.iterative = model, plan, iterative

    def to_json(self) -> dict[str, Any]:
        return self.plan.to_json()

    @property
    def ahead_at_once(self) -> int:
        """Steps that the model gives at each step."""
        return 1 if self.iterative else self.plan.horizon

    def scaled(self, values_TC: np.ndarray) -> Tensor:
        device = next(self.model.parameters()).device
        return torch.as_tensor(self.plan.scaler.apply(values_TC), dtype=torch.float32, device=device)

    def unscaled(self, forecast: Tensor) -> np.ndarray:
        """Forecasts of the target (..., H) from the model's (..., H, N)."""
        mean, std = self.plan.scaler.mean[0], self.plan.scaler.std[0]
        return forecast[..., 0].double().cpu().numpy() * std + mean

    @torch.no_grad()
    def ahead(self, prediction_BKN: Tensor, state: State, horizon: int) -> np.ndarray:
        """Forecasts (B, H) from a prediction and the state that it was made from."""
        if self.iterative:
            return self.unscaled(iterate(self.model, prediction_BKN, state, horizon)[0])
        return self.unscaled(direct(prediction_BKN, horizon))

    @torch.no_grad()
    def predict(self, values_TC: np.ndarray, horizon: int) -> np.ndarray:
        """The `horizon` values of the target that follow a series, (H,)."""
        self.model.eval()
        prediction, state = self.model(self.scaled(values_TC)[None])
        return self.ahead(prediction[:, -1], state, horizon)[0]

    def evaluate(self, tables: list[Table]) -> Scores:
        """The last H steps of each table forecast from all before them."""
        series = read(tables, self.plan.columns[0], self.plan.columns)[1]
        return evaluate(self, series, [table.name for table in tables])

    def predictions(self, table: Table, horizon: int = 0) -> Predictions:
        """What follows the end of the table, a row a step ahead."""
        (values_TC,) = read([table], self.plan.columns[0], self.plan.columns)[1]
        forecast = self.predict(values_TC, horizon or self.plan.horizon).tolist()
        target = self.plan.columns[0]
        short = {"task": "forecast", "target": target, "forecast": forecast}
        return Predictions(["step", target], [[step, y] for step, y in enumerate(forecast, 1)], short)

    def opening(self) -> np.ndarray:
        return np.empty((0, len(self.plan.columns)))

    def from_line(self, value: Any) -> np.ndarray:
        row_C = numbers_of(value, self.plan.columns)
        return self.plan.scaler.apply(row_C[None]).astype(np.float32)

    def answer(self, heard: Heard, horizon: int = 0) -> dict[str, Any]:
        forecast = self.ahead(heard.y[:, -1], heard.state, horizon or self.plan.horizon)[0]
        return {"forecast": forecast.tolist()}

    def backtest(self, values_TC: np.ndarray, first: int, stride: int) -> np.ndarray:
        """Forecasts (O, H) from every `stride`-th origin, the first being the step `first`."""
        forecasts = rolling_origin(
            self.model, self.scaled(values_TC), first, self.plan.horizon, iterative=self.iterative, stride=stride
        )
        return self.unscaled(forecasts)


def read(tables: list[Table], target: str, inputs: list[str]) -> tuple[list[str], list[np.ndarray]]:
    """The names of the columns, the target first, and each table's values (T, C)."""
    first = tables[0]
    names = list(dict.fromkeys(column_name(first, name) for name in [target, *inputs]))
    return names, [np.stack([numeric(table, name) for name in names], 1) for table in tables]


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
            train, valid, test = split(len(values), *_fractions(recipe))
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
    asked = window_of(recipe, 0)
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


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    """Read the series, find what a forecast needs and build the model."""
    target = recipe.data.target or guess_target(tables[0])
    if not recipe.data.target:
        say(series_target(tables[0], target))
    names, series = read(tables, target, recipe.data.inputs)
    for part in ("valid", "test"):
        if isinstance(getattr(recipe.data, part), str):
            raise ConfigError(f"data.{part}: a forecast holds out the end of each series", hint="give a fraction")
    plan, parts = make_plan(recipe, names, series, [table.name for table in tables])
    forecaster = build(recipe, plan, cells, parts)
    scaled = [plan.scaler.apply(part).astype(np.float32) for part in parts]
    ahead = forecaster.ahead_at_once
    targets = len(names) if forecaster.iterative else 1
    batches = Windows(scaled, plan.window, ahead, recipe.train.batch, targets=targets, warm_up=plan.lag)
    found = {
        "target": names[0],
        "inputs": names[1:],
        "season": plan.season,
        "horizon": plan.horizon,
        "anchor": {0: "none", 1: "last"}.get(plan.lag, "season"),
    }
    resolved = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update=found),
            "train": recipe.train.model_copy(update={"window": plan.window}),
        }
    )

    def validate() -> dict[str, float]:
        metrics, _, _ = score(forecaster, recipe, series, "valid")
        return {"loss": metrics["mase"], **metrics}

    return Job(
        resolved,
        forecaster,
        batches,
        validate,
        test=lambda: score(forecaster, recipe, series, "test"),
        every=VALIDATE_EVERY,
        steps=STEPS,
        facts={"horizon": plan.horizon, "season": plan.season},
        draw=lambda folder: plot.draw(folder / "forecast.svg", forecaster, recipe, series[0]),
    )


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Forecaster:
    """The model of a run, still without its weights. Raises RunError where recipe and plan do not agree."""
    plan = Plan.from_json(saved, file)
    said = {key: getattr(recipe.data, key) for key in ("season", "horizon")} | {"window": recipe.train.window}
    for key, value in said.items():
        if value != getattr(plan, key):
            raise RunError(
                f"says {key} = {value}, {file} says {getattr(plan, key)}",
                file=file.with_name("recipe.toml"),
                hint="put the file back that the run was trained with",
            )
    return build(recipe, plan, cells)


def build(recipe: Recipe, plan: Plan, cells: Cells | None, series: list[np.ndarray] | None = None) -> Forecaster:
    """The model of a plan. `series` (the training parts) give the scale of the corrections; a loaded model has it."""
    C, iterative = len(plan.columns), recipe.model.mode == "iterative"
    scale_C = torch.ones(C)
    if series is not None and plan.lag:
        changes = [plan.scaler.apply(part[plan.lag :]) - plan.scaler.apply(part[: -plan.lag]) for part in series]
        std_C = np.concatenate(changes).std(0)
        scale_C = torch.as_tensor(np.where(std_C > 1e-8, std_C, 1.0), dtype=torch.float32)
    stack = body_of(recipe.model, C * (2 if plan.levels and plan.lag else 1), cells)
    model = forecaster(
        stack,
        columns=C,
        targets=C if iterative else 1,
        ahead=1 if iterative else plan.horizon,
        lag=plan.lag,
        scale_C=scale_C,
        levels=plan.levels,
    )
    return Forecaster(model, plan, iterative)


def score(forecaster: Forecaster, recipe: Recipe, series: list[np.ndarray], part: str) -> tuple[dict, dict, int]:
    """Metrics of the model and of each baseline over the origins of the part ("valid" or "test"), and their number."""
    plan = forecaster.plan
    ours = Forecast()
    naive = {name: Forecast() for name in BASELINES} if part == "test" else {}
    n = 0
    for values in series:
        train, valid, test = split(len(values), *_fractions(recipe))
        span = valid if part == "valid" else test
        stride = max(1, (span.stop - span.start - plan.horizon + 1) // MOST_ORIGINS[part])
        known = values[: span.stop]
        scale = seasonal_scale(values[train, 0], plan.season)
        forecasts = forecaster.backtest(known, span.start, stride)
        for forecast, origin in zip(forecasts, _origins(span, plan.horizon, stride), strict=True):
            truth = known[origin : origin + plan.horizon, 0]
            ours.update(truth, forecast, scale)
            for name, metric in naive.items():
                metric.update(truth, BASELINES[name](known[:origin, :1], plan.horizon, plan.season)[:, 0], scale)
            n += 1
    return ours.result(), {name: metric.result() for name, metric in naive.items()}, n


def _fractions(recipe: Recipe) -> tuple[float, float]:
    """Of each series, its end held out for validation and test."""
    return float(recipe.data.valid), float(recipe.data.test)


def _origins(span: slice, horizon: int, stride: int) -> Iterator[int]:
    return iter(range(span.start, span.stop - horizon + 1, stride))


def evaluate(forecaster: Forecaster, series: list[np.ndarray], files: list[str]) -> tuple[dict, dict, int]:
    """The last H steps of each series forecast from all before them: metrics, baselines, number of series.

    Raises:
        DataError: a series has no step before its last H.
    """
    plan, ours = forecaster.plan, Forecast()
    naive = {name: Forecast() for name in BASELINES}
    for values, file in zip(series, files, strict=True):
        if len(values) <= plan.horizon:
            raise DataError(
                f"has {len(values)} steps; to evaluate a horizon of {plan.horizon} it needs more",
                file=file,
                hint="evaluate on the whole series, not on its tail alone",
            )
        history, truth = values[: -plan.horizon], values[-plan.horizon :, 0]
        scale = seasonal_scale(history[:, 0], plan.season)
        ours.update(truth, forecaster.predict(history, plan.horizon), scale)
        for name, metric in naive.items():
            metric.update(truth, BASELINES[name](history[:, :1], plan.horizon, plan.season)[:, 0], scale)
    return ours.result(), {name: metric.result() for name, metric in naive.items()}, len(series)
