"""`clew evaluate` and `clew predict`: a run folder and sources to figures and forecasts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clew.cli.show import print_json, say
from clew.cli.train import print_table
from clew.errors import ConfigError
from clew.tasks import evaluate as run_evaluation
from clew.tasks import load
from clew.tasks.train import values_of
from clew.training.files import write_atomic

Run = Annotated[str, typer.Argument(help="A run folder.", metavar="RUN")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line.")]


def evaluate(
    run: Run,
    sources: Annotated[list[str], typer.Argument(help="Files, or sample:NAME.", metavar="SOURCE...")],
    as_json: Json = False,
) -> None:
    """Forecast the last steps of each source from all before them, beside the naive forecasts."""
    result = run_evaluation(run, sources)
    if as_json:
        print_json(result)
        return
    print_table({"model": result["metrics"], **result["baseline"]})
    say(f"{result['task']}: {result['n']} series")


def predict(
    run: Run,
    source: Annotated[str, typer.Argument(help="A file, or sample:NAME.", metavar="SOURCE")],
    out: Annotated[Path | None, typer.Option(help="Write here (.csv or .jsonl) and not to stdout.")] = None,
    horizon: Annotated[int, typer.Option(help="Steps to forecast; default: those of the run.")] = 0,
    as_json: Json = False,
) -> None:
    """Forecast what follows the end of a source."""
    forecaster = load(run)
    (values_TC,) = values_of(forecaster, [source])
    horizon = horizon or forecaster.plan.horizon
    if horizon < 1:
        raise ConfigError(f"--horizon must be at least 1, got {horizon}")
    forecast = forecaster.predict(values_TC, horizon).tolist()
    target = forecaster.plan.columns[0]
    if as_json:
        print_json({"task": "forecast", "target": target, "forecast": forecast})
        return
    rows = [f"{step},{value:.10g}" for step, value in enumerate(forecast, 1)]
    text = "\n".join([f"step,{target if ',' not in target else chr(34) + target + chr(34)}", *rows]) + "\n"
    if out is None:
        print(text, end="")
    else:
        write_atomic(out, text)
        say(f"{horizon} steps of '{target}' written to {out}")
