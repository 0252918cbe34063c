"""`clew diagnose`: a run folder to findings in plain words, and a page that shows them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from clew.cli.predict import Json, Run
from clew.cli.show import print_json, say
from clew.diagnose.probe import STEPS
from clew.errors import ConfigError
from clew.report.run import report
from clew.training.files import write_atomic


def diagnose(
    run: Run,
    source: Annotated[
        str | None,
        typer.Argument(help="A file with answers, or sample:NAME; default: that of the run.", metavar="SOURCE"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where the page goes; default: report.html in the run.")] = None,
    steps: Annotated[int, typer.Option(help="How many steps back to look, at most.")] = STEPS,
    dt: Annotated[float, typer.Option(help="Seconds between two steps, to say lags in seconds.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Say how far a model remembers, whether gradients reach that far, what its layers do, and what to try."""
    if steps < 2:
        raise ConfigError(f"--steps must be at least 2, got {steps}")
    if not 0 <= dt < math.inf:
        raise ConfigError(f"--dt must be a number of seconds of at least 0, got {dt}")
    file = out or Path(run) / "report.html"
    if file.is_dir():
        raise ConfigError("is a folder", file=file, hint="name a file, as in --out report.html")
    found = report(run, [source] if source else [], steps=steps, dt=dt)
    write_atomic(file, found.html())
    if as_json:
        print_json(found.to_json())
        return
    for number, remark in enumerate(found.remarks, 1):
        print(f"{number}. {remark.text}")
        if remark.changes:
            print(f"   try {' '.join(f'--set {change}' for change in remark.changes)}")
    if not found.remarks:
        print("nothing to remark")
    say(f"{file}")
