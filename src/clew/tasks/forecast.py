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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clew.config import Recipe
from clew.data.batch import Example
from clew.data.numbers import steps_of_line
from clew.data.series import split
from clew.data.table import Table, column_name, guess_target, numeric
from clew.data.windows import Windows
from clew.errors import ConfigError, DataError, RunError
from clew.forecast import BASELINES, Plan, direct, held_out_fractions, iterate, make_plan, rolling_origin
from clew.metrics import Forecast, seasonal_scale
from clew.models import Single, body_of, forecaster
from clew.tasks import plot
from clew.tasks.base import Cells, Heard, Job, Predictions, Scores, Shown, all_but, say
from clew.tasks.guess import series_target
from clew.tasks.plain import Plain, unscaled
from clew.tasks.records import spread
from clew.tree import State

DEFAULTS: dict[str, dict[str, Any]] = {}
UNUSED = (
    *all_but("forecast"),
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
    "train.entropy_matching",
)
STEPS, VALIDATE_EVERY = 600, 25
STRETCH, REMEMBERED = 256, 5_000  # steps before a forecast that is only shown: those shown, and those read
MOST_ORIGINS = {"valid": 100, "test": 500}  # validation runs often; a test of 500 origins is precise enough


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

    def shown(self, tables: list[Table], most: int) -> list[Shown]:
        """Stretches of the series, and what is forecast from each one's end."""
        H, ahead, N = self.plan.horizon, self.ahead_at_once, len(self.plan.columns) if self.iterative else 1
        series, W = read(tables, self.plan.columns[0], self.plan.columns)[1], self.plan.window
        ends = [
            (values, table.name, end)
            for values, table in zip(series, tables, strict=True)
            for end in range(W, len(values) - max(ahead, H) + 1, W)
        ]
        found = []
        for values, file, end in spread(ends, most):
            begin = max(0, end - max(W, STRETCH))
            x = self.plan.scaler.apply(values[begin : end + ahead]).astype(np.float32)
            target = np.stack([x[t + 1 : t + 1 + ahead, :N] for t in range(end - begin)])
            truth, said = values[end : end + H, 0], self.predict(values[max(0, end - REMEMBERED) : end], H)
            texts = [", ".join(f"{y:.4g}" for y in row) for row in (truth, said)]
            example, wrong = Example(x[: end - begin], target), float(np.abs(truth - said).mean())
            found.append(Shown(f"{file}, step {end}", example, texts[0], texts[1], wrong))
        return found

    def opening(self) -> np.ndarray:
        return np.empty((0, len(self.plan.columns)))

    def from_line(self, value: Any, before: Any = None) -> tuple[np.ndarray, Any]:
        return self.plan.scaler.single(steps_of_line(value, self.plan.columns)), None

    def answer(self, heard: Heard, horizon: int = 0) -> dict[str, Any]:
        horizon = horizon or self.plan.horizon
        if self.iterative:
            y_HN = np.concatenate([heard.y[-1], heard.roll(horizon - 1)[:, 0]]) if horizon > 1 else heard.y[-1]
        else:
            y_HN = direct(heard.y[-1:], horizon)[0]
        return {"forecast": (y_HN[:, 0] * self.plan.scaler.std[0] + self.plan.scaler.mean[0]).tolist()}

    def plain(self) -> Plain:
        """The forecasts of the target; of one step and all columns where it forecasts from its own forecasts."""
        columns, scaler = self.plan.columns, self.plan.scaler
        if self.iterative:
            says = unscaled(scaler)
            return Plain(self.model, columns, columns, lambda y: says(y[:, 0]), scaler, sizes=scaler.std.tolist())
        says, sizes = unscaled(scaler, slice(1)), [float(scaler.std[0])] * self.plan.horizon
        names = [f"{columns[0]} +{k}" for k in range(1, self.plan.horizon + 1)]
        return Plain(self.model, columns, names, lambda y: says(y[..., 0]), scaler, sizes=sizes)

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

    def draw(folder: Path) -> None:
        values_TC = series[0]
        held_out = split(len(values_TC), *held_out_fractions(recipe))[2]
        forecasts = forecaster.backtest(values_TC, held_out.start, plan.horizon)
        plot.draw(folder / "forecast.svg", plan, recipe.model.cell, values_TC, held_out, forecasts)

    return Job(
        resolved,
        forecaster,
        batches,
        validate,
        test=lambda: score(forecaster, recipe, series, "test"),
        every=VALIDATE_EVERY,
        steps=STEPS,
        facts={"horizon": plan.horizon, "season": plan.season},
        draw=draw,
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
        train, valid, test = split(len(values), *held_out_fractions(recipe))
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
