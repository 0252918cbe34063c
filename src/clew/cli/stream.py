"""`clew stream`: JSON lines in, JSON lines out, the state carried, in constant memory."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from clew.cli.show import print_json
from clew.errors import DataError
from clew.stream import Session
from clew.tasks import load


def stream(
    run: Annotated[str, typer.Argument(help="A run folder.", metavar="RUN")],
    horizon: Annotated[int, typer.Option(help="Steps to forecast at each step; default: those of the run.")] = 0,
) -> None:
    """Read one step a line from stdin and print a forecast a line.

    A line is a number, a list with one number per column, or an object by column name; {"reset": true} begins anew.
    """
    session = Session(load(run))
    for row, line in enumerate(sys.stdin, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"not JSON: {line.strip()[:60]!r}", file="stdin", row=row, hint="a number a line will do"
            ) from error
        if values == {"reset": True}:
            session.reset()
            continue
        try:
            forecast = session.push(values, horizon or None)
        except DataError as error:
            raise DataError(error.what, file="stdin", row=row, column=error.column, hint=error.hint) from error
        print_json({"step": session.steps, "forecast": forecast.tolist()})
