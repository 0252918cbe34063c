"""From sources to a run folder, and back: `clew.train`, `clew.evaluate`, `clew.load`."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clew import config
from clew.cells import Recurrence
from clew.config import Recipe
from clew.data.sources import Table, read_table
from clew.errors import ConfigError, DataError, RunError, did_you_mean
from clew.models.build import find_cell
from clew.tasks import forecast, plot
from clew.tasks.forecast import Forecaster, Plan
from clew.tasks.run import SCALER, RunFolder
from clew.training import Settings, fit

TASKS = {"forecast": forecast}
DEFAULT_STEPS, VALIDATE_EVERY = 600, 25
SMALL = 128  # units, under which a second thread costs more than it brings
Sources = str | Path | Sequence[str | Path]
Cells = Mapping[str, type[Recurrence]]


def train(
    sources: Sources,
    out: str | Path,
    *,
    recipe: Recipe | str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    cells: Cells | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Train a model on one or several sources and write a run folder.

    Args:
        sources: files or `sample:NAME`; each is a series of its own.
        out: the run folder; one that holds a finished run is not overwritten.
        recipe: what to do, or the TOML file that says it; else defaults.
        overrides: single keys over the recipe, as the command line has them: `["train.lr=1e-3"]`.
        resume: go on from the last checkpoint in `out`, with its recipe, bit for bit on the CPU.
        cells: your own recurrences by name, beside those of the table.
        progress: a progress bar on stderr; None for one on a terminal.
        settings: the same by name: `target="load", horizon=24, cell="gru", lr=1e-3`.

    Returns:
        what `metrics.json` holds: metrics on the held-out tail and those of the naive baselines beside them.

    Raises:
        ClewError: anything in the sources, the recipe or the folder that cannot be used as asked.

    Example:
        >>> clew.train("power.csv", "runs/power", target="load", horizon=24)
    """
    folder = RunFolder(out)
    recipe = _start(folder, recipe, resume, overrides, settings)
    names = [sources] if isinstance(sources, str | Path) else list(sources)
    if not names:
        raise DataError("no source given", hint="name a file or sample:NAME")
    folder.check_free(resume=resume)
    find_cell(recipe.model.cell, cells)
    device = pick_device(recipe.train.device)
    tables = [read_table(name) for name in names]
    recipe = _resolve_task(recipe, tables)
    if not recipe.data.target:
        _say(forecast.guess(tables[0]))
    columns, series = forecast.read(tables, recipe.data.target, recipe.data.inputs)
    plan, parts = forecast.make_plan(recipe, columns, series, [table.name for table in tables])
    recipe = _resolved(recipe, plan, names)
    threads_before = torch.get_num_threads()
    torch.manual_seed(recipe.seed)  # the weights are a function of the seed alone
    forecaster = forecast.build(recipe, plan, cells, parts)
    forecaster.model.to(device)
    batches = forecast.windows(recipe, plan, forecaster, parts)
    data = {"sha256": _digest(tables), "rows": sum(table.rows for table in tables)}

    folder.create()
    if folder.begun() and (folder.path / SCALER).exists():
        _same_run(folder, recipe, data)
    folder.save_recipe(recipe)
    folder.save_scaler({**plan.to_json(), "data": data})

    def validate() -> dict[str, float]:
        metrics, _, _ = forecast.score(forecaster, recipe, series, "valid")
        return {"loss": metrics["mase"], **metrics}

    torch.set_num_threads(recipe.train.threads)
    try:
        fitted = fit(
            forecaster.model,
            batches,
            _settings(recipe, len(batches)),
            validate=validate,
            folder=folder.path,
            seed=recipe.seed,
            resume=resume,
            progress=progress,
        )
        folder.save_weights(forecaster.model)
        metrics, baseline, n = forecast.score(forecaster, recipe, series, "test")
    finally:
        torch.set_num_threads(threads_before)
    result = {
        "task": recipe.task,
        "cell": recipe.model.cell,
        "parameters": sum(p.numel() for p in forecaster.model.parameters()),
        "metrics": metrics,
        "baseline": baseline,
        "n": n,
        "horizon": plan.horizon,
        "season": plan.season,
        "steps": fitted.step,
        "stopped": fitted.stopped,
        "seconds": round(fitted.seconds, 3),
        "steps_per_second": round(fitted.steps_per_second, 2),
        "seed": recipe.seed,
        "data": data,
    }
    folder.save_metrics(result)
    plot.draw(folder.path / "forecast.svg", forecaster, recipe, series[0])
    return result


def load(run: str | Path, cells: Cells | None = None) -> Forecaster:
    """The trained model of a run folder, on the CPU, in evaluation mode.

    Raises:
        RunError: the folder is not a finished run, or a file of it is damaged.
    """
    folder = RunFolder(run)
    folder.check()
    recipe, plan = folder.recipe(), Plan.from_json(folder.scaler(), folder.path / SCALER)
    said = {key: getattr(recipe.data, key) for key in ("season", "horizon")} | {"window": recipe.train.window}
    for key, value in said.items():
        if value != getattr(plan, key):
            raise RunError(
                f"says {key} = {value}, {folder.path / SCALER} says {getattr(plan, key)}",
                file=folder.path / "recipe.toml",
                hint="put the file back that the run was trained with",
            )
    forecaster = forecast.build(recipe, plan, cells)
    folder.load_weights(forecaster.model)
    forecaster.model.eval()
    return forecaster


def evaluate(run: str | Path, sources: Sources, cells: Cells | None = None) -> dict[str, Any]:
    """How well a run forecasts the last H steps of each source from all before them.

    Returns:
        {"task", "metrics", "baseline", "n"}
    """
    forecaster = load(run, cells)
    names = [sources] if isinstance(sources, str | Path) else list(sources)
    metrics, baseline, n = forecast.evaluate(forecaster, values_of(forecaster, names), [str(name) for name in names])
    return {"task": "forecast", "metrics": metrics, "baseline": baseline, "n": n}


def values_of(forecaster: Forecaster, sources: Sequence[str | Path]) -> list[np.ndarray]:
    """The columns that the model reads, of each source, (T, C)."""
    columns = forecaster.plan.columns
    return forecast.read([read_table(name) for name in sources], columns[0], columns)[1]


def _start(
    folder: RunFolder,
    recipe: Recipe | str | Path | None,
    resume: bool,
    overrides: Sequence[str],
    settings: Mapping[str, Any],
) -> Recipe:
    """The recipe with single keys changed. A resumed run starts from its own."""
    if recipe is None and resume and folder.begun():
        recipe = folder.recipe()
    raw = config.load_recipe(recipe) if isinstance(recipe, str | Path) else (recipe or Recipe()).model_dump()
    for key, value in settings.items():
        home = next((s for s in ("data", "model", "train") if key in Recipe().model_dump()[s]), None)
        if home is None and key not in ("task", "seed"):
            every = Recipe().model_dump()
            known = ["task", "seed", *every["data"], *every["model"], *every["train"]]
            raise ConfigError(f"unknown setting '{key}'", hint=did_you_mean(key, known))
        (raw.setdefault(home, {}) if home else raw)[key] = value
    return config.build(raw, list(overrides), recipe if isinstance(recipe, str | Path) else None)


def pick_device(name: str) -> torch.device:
    """The named device, or with "auto" a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"the device '{name}' cannot be used here", hint="train.device = 'cpu' or 'auto'") from error


def _resolve_task(recipe: Recipe, tables: list[Table]) -> Recipe:
    if recipe.task and recipe.task not in TASKS:
        raise ConfigError(f"unknown task '{recipe.task}'", hint=did_you_mean(recipe.task, TASKS))
    if not recipe.task:
        _say(f"task: forecast, as {tables[0].name} holds numeric columns in time order")
    return recipe.model_copy(update={"task": recipe.task or "forecast"})


def _resolved(recipe: Recipe, plan: Plan, names: list[str | Path]) -> Recipe:
    """Everything that was left open, written down, so that the run can be repeated from its recipe."""
    data = recipe.data.model_copy(
        update={
            "train": ", ".join(str(name) for name in names),
            "target": plan.columns[0],
            "inputs": plan.columns[1:],
            "season": plan.season,
            "horizon": plan.horizon,
            "anchor": {0: "none", 1: "last"}.get(plan.lag, "season"),
        }
    )
    steps = recipe.train.steps or (0 if recipe.train.epochs else DEFAULT_STEPS)
    threads = recipe.train.threads or (1 if recipe.model.width < SMALL else torch.get_num_threads())
    fixed = recipe.train.model_copy(update={"window": plan.window, "steps": steps, "threads": threads})
    return recipe.model_copy(update={"data": data, "train": fixed})


def _settings(recipe: Recipe, batches_per_epoch: int) -> Settings:
    """The recipe's part on training, as the loop takes it."""
    t = recipe.train
    steps = t.steps or t.epochs * batches_per_epoch
    return Settings(
        steps=steps,
        lr=t.lr,
        warmup=t.warmup,
        clip=t.clip,
        weight_decay=t.weight_decay,
        patience=t.patience,
        validate_every=t.validate_every or min(VALIDATE_EVERY, steps),
        checkpoint_every=t.checkpoint_every,
    )


def _same_run(folder: RunFolder, recipe: Recipe, data: dict[str, Any]) -> None:
    """A run goes on only from what it was begun with; else nothing in the folder is touched."""
    old = folder.recipe()
    for section in ("data", "model", "train"):
        for key, value in getattr(old, section).model_dump().items():
            now = getattr(getattr(recipe, section), key)
            if now != value and key != "train":
                raise ConfigError(
                    f"{section}.{key} is {now!r}, but the run to resume was begun with {value!r}",
                    file=folder.path,
                    hint="resume with the options that it was begun with, or train into a new --out",
                )
    if old.seed != recipe.seed:
        raise ConfigError(
            f"seed is {recipe.seed}, but the run to resume was begun with {old.seed}",
            file=folder.path,
            hint=f"--seed {old.seed}",
        )
    if folder.scaler().get("data") != data:
        raise DataError(
            "the data are not those that the run was begun with",
            file=folder.path,
            hint="resume with the same files, or train into a new --out",
        )


def _digest(tables: list[Table]) -> str:
    if len(tables) == 1:
        return tables[0].sha256
    return hashlib.sha256("".join(table.sha256 for table in tables).encode()).hexdigest()


def _say(text: str) -> None:
    print(text, file=sys.stderr)
