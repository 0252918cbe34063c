"""From sources to a run folder, and back: `clew.train`, `clew.evaluate`, `clew.load`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from clew import config
from clew.config import SECTIONS, Recipe
from clew.data.sources import read_table
from clew.data.table import Table
from clew.diagnose.watching import FlowWatch
from clew.errors import ConfigError, DataError, did_you_mean
from clew.models.build import find_cells
from clew.ops.precision import products
from clew.tasks import (
    caption,
    classify,
    detect,
    forecast,
    generate,
    guess,
    multitask,
    point,
    regress,
    sets,
    summarise,
    tag,
    transcribe,
    translate,
)
from clew.tasks.base import Cells, Job, Trained, refuse_unused, say
from clew.tasks.run import PLAN, RECIPE, RunFolder
from clew.training import Settings, fit, steps_within

TASKS: dict[str, ModuleType] = {
    "caption": caption,
    "classify": classify,
    "detect": detect,
    "forecast": forecast,
    "generate": generate,
    "multitask": multitask,
    "point": point,
    "regress": regress,
    "set": sets,
    "summarise": summarise,
    "tag": tag,
    "transcribe": transcribe,
    "translate": translate,
}
SMALL = 128  # units, under which a second thread costs more than it brings
HEADERS = {"auto": None, "yes": True, "no": False}
Sources = str | Path | Sequence[str | Path]


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
        sources: files or `sample:NAME`.
        out: the run folder; one that holds a finished run is not overwritten.
        recipe: what to do, or the TOML file that says it; else the task's defaults.
        overrides: single keys over the recipe, as the command line has them: `["train.lr=1e-3"]`.
        resume: go on from the last checkpoint in `out`, with its recipe, bit for bit on the CPU.
        cells: your own recurrences by name, beside those of the table.
        progress: a progress bar on stderr; None for one on a terminal.
        settings: the same by name: `target="load", horizon=24, cell="gru", lr=1e-3`.

    Returns:
        what `metrics.json` holds: metrics on the held-out part and those of the naive baselines beside them.

    Raises:
        ClewError: anything in the sources, the recipe or the folder that cannot be used as asked.

    Example:
        >>> clew.train("power.csv", "runs/power", target="load", horizon=24)
    """
    folder = RunFolder(out)
    raw, file = _start(folder, recipe, resume, settings)
    if resume and folder.begun():
        raw, overrides = _begun(raw, overrides, folder.recipe())
    asked = config.build(raw, overrides, file)
    names = _names(sources)
    folder.check_free(resume=resume)
    find_cells(asked.model.cell, cells)
    device = pick_device(asked.train.device)
    tables = [read_table(name, header=HEADERS[asked.data.header]) for name in names]
    task = _task(asked, tables)
    recipe = config.build({**raw, "task": task}, overrides, file, TASKS[task].DEFAULTS)
    recipe = recipe.model_copy(update={"task": task})
    refuse_unused(recipe, TASKS[task].UNUSED, f"the task '{task}'", "leave it out, or name another --task")
    torch.manual_seed(recipe.seed)  # the weights are a function of the seed alone
    with _fits(file):
        job: Job = TASKS[task].prepare(recipe, tables, cells)
    recipe = _resolved(job, names, tables[0].header)
    model = job.trained.model.to(device)
    if recipe.train.minutes:
        recipe = _in_minutes(recipe, job)
    data = {"sha256": _digest(tables), "rows": sum(table.rows for table in tables)}

    folder.create()
    if folder.begun() and (folder.path / PLAN).exists():
        _same_run(folder, recipe, data)
    folder.save_recipe(recipe)
    folder.save_plan({**job.trained.to_json(), "data": data})
    with _threads(recipe.train.threads):
        with products(recipe.train.precision):
            fitted = fit(
                model,
                job.batches,
                _settings(recipe, job),
                validate=job.validate,
                watch=FlowWatch(model, job.batches, recipe.seed) if recipe.train.watch else None,
                folder=folder.path,
                seed=recipe.seed,
                resume=resume,
                progress=progress,
            )
        folder.save_weights(model)
        metrics, baseline, n = job.test()
    result = {
        "task": task,
        "cell": recipe.model.cell,
        "parameters": sum(p.numel() for p in model.parameters()),
        "metrics": metrics,
        "baseline": baseline,
        "n": n,
        **job.facts,
        "valid": fitted.best,
        "steps": fitted.step,
        "stopped": fitted.stopped,
        "seconds": round(fitted.seconds, 3),
        "steps_per_second": round(fitted.steps_per_second, 2),
        "seed": recipe.seed,
        "data": data,
    }
    folder.save_metrics(result)
    if job.draw:
        job.draw(folder.path)
    return result


def load(run: str | Path, cells: Cells | None = None) -> Any:
    """The trained model of a run folder, on the CPU, in evaluation mode: what its task makes (`Forecaster`, `Labelled`,
    `Writer`, `Translator`, ...).

    Raises:
        RunError: the folder is not a finished run, or a file of it is damaged.
    """
    trained = untrained(run, cells)
    RunFolder(run).load_weights(trained.model)
    return trained


def untrained(run: str | Path, cells: Cells | None = None) -> Any:
    """The same with the weights that its seed draws. Raises as `load`."""
    folder = RunFolder(run)
    folder.check()
    recipe = folder.recipe()
    if recipe.task not in TASKS:
        raise ConfigError(
            f"unknown task '{recipe.task}'", file=folder.path / "recipe.toml", hint=did_you_mean(recipe.task, TASKS)
        )
    with torch.random.fork_rng([]):
        torch.manual_seed(recipe.seed)
        with _fits(folder.path / RECIPE):
            trained: Trained = TASKS[recipe.task].restore(recipe, folder.plan(), folder.path / PLAN, cells)
    trained.model.eval()
    return trained


def evaluate(run: str | Path, sources: Sources, cells: Cells | None = None) -> dict[str, Any]:
    """How well a run does on sources, beside the naive baselines. A forecast is of the last H steps of each source.

    Returns:
        {"task", "metrics", "baseline", "n"}
    """
    trained = load(run, cells)
    metrics, baseline, n = trained.evaluate([read_for(run, name) for name in _names(sources)])
    return {"task": RunFolder(run).recipe().task, "metrics": metrics, "baseline": baseline, "n": n}


def sources_of(named: str) -> list[str]:
    """The sources that a recipe names in data.train."""
    return [named] if Path(named).exists() else [name.strip() for name in named.split(",")]


def read_for(run: str | Path, source: str | Path) -> Table:
    """A source as the run read its own: with a header or without."""
    return read_table(source, header=HEADERS[RunFolder(run).recipe().data.header])


def _names(sources: Sources) -> list[str | Path]:
    names = [sources] if isinstance(sources, str | Path) else list(sources)
    if not names:
        raise DataError("no source given", hint="name a file or sample:NAME")
    return names


def _start(
    folder: RunFolder, recipe: Recipe | str | Path | None, resume: bool, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], object]:
    """What was said, by section, and the file that said it. A resumed run starts from its own recipe."""
    if recipe is None and resume and folder.begun():
        recipe = folder.recipe()
    if isinstance(recipe, str | Path):
        raw = config.load_recipe(recipe)
    else:
        raw = recipe.model_dump(exclude_unset=True) if recipe else {}
    for key, value in settings.items():
        home = next((name for name, section in SECTIONS.items() if key in section.model_fields), None)
        if home is None and key not in ("task", "seed"):
            known = ["task", "seed", *(name for section in SECTIONS.values() for name in section.model_fields)]
            raise ConfigError(f"unknown setting '{key}'", hint=did_you_mean(key, known))
        (raw.setdefault(home, {}) if home else raw)[key] = value
    return raw, recipe if isinstance(recipe, str | Path) else None


def pick_device(name: str) -> torch.device:
    """The named device, or with "auto" a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"the device '{name}' cannot be used here", hint="train.device = 'cpu' or 'auto'") from error


def _task(recipe: Recipe, tables: list[Table]) -> str:
    """The task, said aloud where it is a guess."""
    if recipe.task:
        if recipe.task not in TASKS:
            raise ConfigError(f"unknown task '{recipe.task}'", hint=did_you_mean(recipe.task, TASKS))
        return recipe.task
    if recipe.data.targets:
        return "multitask"
    task, why = guess.task_of(tables[0], recipe.data.target, recipe.data.inputs)
    say(f"task: {task}, as {tables[0].name} {why}")
    return task


def _resolved(job: Job, names: list[str | Path], header: bool) -> Recipe:
    """Everything that was left open, written down, so that the run can be repeated from its recipe."""
    recipe = job.recipe
    t = recipe.train
    steps = t.steps or (0 if t.epochs or t.minutes else job.steps)
    threads = t.threads or (1 if recipe.model.width < SMALL else torch.get_num_threads())
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(
                update={"train": ", ".join(str(name) for name in names), "header": "yes" if header else "no"}
            ),
            "train": t.model_copy(update={"steps": steps, "threads": threads}),
        }
    )


def _begun(raw: dict[str, Any], overrides: Sequence[str], begun: Recipe) -> tuple[dict[str, Any], list[str]]:
    """What was said, with the steps that a run was begun with in place of minutes."""
    kept = [one for one in overrides if one.partition("=")[0].strip() not in ("minutes", "train.minutes")]
    table = raw.setdefault("train", {})
    if isinstance(table, dict) and (table.pop("minutes", None) or len(kept) < len(overrides)):
        table["steps"] = begun.train.steps
    return raw, kept


def _in_minutes(recipe: Recipe, job: Job) -> Recipe:
    """The recipe with steps in place of minutes: as many as there is time for."""
    t, model = recipe.train, job.trained.model
    with _threads(t.threads), products(t.precision):
        trial = replace(_settings(recipe, job), steps=1, validate_every=t.validate_every or job.every)
        least = 0 if t.validate_every else job.validations
        steps = steps_within(60 * t.minutes, model, job.batches, trial, job.validate, least, recipe.seed)
    say(f"steps: {steps}, for which there is time in {t.minutes:g} minutes")
    return recipe.model_copy(update={"train": t.model_copy(update={"steps": steps, "minutes": 0.0})})


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _settings(recipe: Recipe, job: Job) -> Settings:
    """The recipe's part on training, as the loop takes it."""
    t = recipe.train
    steps = t.steps or t.epochs * -(-len(job.batches) // t.accumulate)
    return Settings(
        steps=steps,
        lr=t.lr,
        warmup=t.warmup,
        clip=t.clip,
        weight_decay=t.weight_decay,
        average=t.average,
        accumulate=t.accumulate,
        patience=t.patience,
        validate_every=t.validate_every or min(job.every, -(-steps // job.validations)),
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
    if folder.plan().get("data") != data:
        raise DataError(
            "the data are not those that the run was begun with",
            file=folder.path,
            hint="resume with the same files, or train into a new --out",
        )


@contextmanager
def _fits(file: object) -> Iterator[None]:
    """Raises ConfigError where a model is larger than the memory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        hint = "a smaller model.width, or fewer model.layers"
        raise ConfigError("the model does not fit into the memory of this machine", file=file, hint=hint) from error


def _digest(tables: list[Table]) -> str:
    if len(tables) == 1:
        return tables[0].sha256
    return hashlib.sha256("".join(table.sha256 for table in tables).encode()).hexdigest()
