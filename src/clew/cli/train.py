"""`clew train`: sources to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clew.cli.show import print_json, print_table, print_targets, say
from clew.tasks import train as run_training
from clew.tasks.train import sources_of

UNITS = {
    **dict.fromkeys(("caption", "summarise", "transcribe", "translate"), "texts"),
    **dict.fromkeys(("classify", "multitask", "regress", "set"), "records"),
    **dict.fromkeys(("detect", "tag"), "sequences"),
    **{"forecast": "origins", "generate": "units", "point": "orders"},
}
FIRST = {  # the metric that a task is known by, and whether more of it is better
    "classify": ("accuracy", True),
    "forecast": ("mase", False),
    "generate": ("nats", False),
    "multitask": ("error", False),
    "set": ("matched_error", False),
    "regress": ("rmse", False),
    "tag": ("accuracy", True),
    "detect": ("f1", True),
    **dict.fromkeys(("summarise", "translate"), ("token_error", False)),
    **dict.fromkeys(("caption", "transcribe"), ("cer", False)),
    "point": ("exact", True),
}


def train(
    sources: Annotated[list[str] | None, typer.Argument(help="Files, or sample:NAME.", metavar="SOURCE...")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder. Default: runs/ and the source's name.")] = None,
    task: Annotated[str, typer.Option(help="What to learn; guessed from the file when not given.")] = "",
    cell: Annotated[str, typer.Option(help="A name of `clew cells`.")] = "",
    targets: Annotated[
        list[str] | None, typer.Option("--target", help="The column to predict, by name or number; or several.")
    ] = None,
    inputs: Annotated[list[str] | None, typer.Option("--input", help="A column to see; repeatable.")] = None,
    horizon: Annotated[int, typer.Option(help="Steps to forecast.")] = 0,
    mode: Annotated[str, typer.Option(help="iterative (fed its own predictions) or direct (all steps at once).")] = "",
    recipe: Annotated[Path | None, typer.Option(help="A TOML file with any of the recipe's keys.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE over the recipe; repeatable.")] = None,
    seed: Annotated[int | None, typer.Option(help="Everything random follows from it.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Log how far gradients reach, at each validation.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json on one line.")] = False,
) -> None:
    """Train a model on your own sequences."""
    given: dict[str, Any] = {
        "task": task,
        "cell": cell,
        **({"target": targets[0]} if targets and len(targets) == 1 else {"targets": targets}),
        "inputs": inputs,
        "horizon": horizon,
        "mode": mode,
        "watch": watch,
    }
    settings = {key: value for key, value in given.items() if value}
    if seed is not None:
        settings["seed"] = seed
    sources = sources or _sources_of(recipe, out, resume)
    out = out or Path("runs") / (Path(sources[0].removeprefix("sample:")).resolve().name.split(".")[0] or "run")
    result = run_training(sources, out, recipe=recipe, overrides=changes or [], resume=resume, **settings)
    if as_json:
        print_json(result)
    else:
        show_result(result, out)
    if result["stopped"] == "interrupted":
        say(f"interrupted after {result['steps']} steps; go on with: clew train --out {out} --resume")
        raise typer.Exit(130)


def show_result(result: dict[str, Any], out: Path) -> None:
    """The held-out part: the model beside its baselines."""
    metrics, baselines = result["metrics"], result["baseline"]
    ahead = f", horizon {result['horizon']}, season {result['season']}" if "horizon" in result else ""
    print(f"{result['task']}{ahead}: {result['n']:,} {UNITS[result['task']]} held out")
    print_table({f"{result['cell']} ({result['parameters']:,} parameters)": metrics, **baselines})
    print_targets(metrics, baselines)
    name, higher = FIRST[result["task"]]
    best = (max if higher else min)(baselines, key=lambda baseline: baselines[baseline][name])
    ours, naive = metrics[name], baselines[best][name]
    better = ours > naive if higher else ours < naive
    share = (
        f"{ours / naive:.2f} of its error"
        if not higher and min(ours, naive) > 0
        else f"{name} {ours:.4g} against {naive:.4g}"
    )
    what = "forecast" if result["task"] == "forecast" else "baseline"
    print(f"The model {'beats' if better else 'does not beat'} the best naive {what} ({best}): {share}.")
    if seen := result.get("test_seen_in_training"):
        say(f"note: {seen} of the {result['n']:,} held out occur in the training part too")
    say(f"{result['steps']} steps in {result['seconds']:.0f} s ({result['stopped']}); the run is in {out}")


def _sources_of(recipe: Path | None, out: Path | None, resume: bool) -> list[str]:
    """Where a recipe, or the run to resume, names the source itself."""
    from clew.config import load_recipe
    from clew.errors import ConfigError

    file = out / "recipe.toml" if resume and out is not None else recipe
    named = load_recipe(file).get("data", {}).get("train", "") if file is not None else ""
    if not named:
        raise ConfigError("no source given", hint="clew train FILE, or clew train sample:co2")
    return sources_of(named)
