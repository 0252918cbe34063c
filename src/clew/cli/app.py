"""The verbs, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import metadata
from typing import Annotated

import typer

from clew.cli import diagnose, export, lab, predict, serve, show, train
from clew.cli import stream as streaming
from clew.errors import ClewError

app = typer.Typer(
    name="clew",
    help="From your own sequences to a recurrent model that runs as a constant-memory stream.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("evaluate")(predict.evaluate)
app.command("predict")(predict.predict)
app.command("generate")(predict.generate)
app.command("stream")(streaming.stream)
app.command("serve")(serve.serve)
app.command("export")(export.export)
app.command("diagnose")(diagnose.diagnose)
app.command("lab")(lab.lab)
app.command("cells")(show.cells)
app.command("doctor")(show.doctor)


def _version(asked: bool) -> None:
    if asked:
        print(metadata.version("clew"))
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """Options of every verb."""


def main(arguments: Iterable[str] | None = None) -> None:
    """Run the command line; ends the process with 0, or 2 for a mistake of the user's, or 130 when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=arguments, prog_name="clew", standalone_mode=True)
    except ClewError as error:
        if "--debug" in arguments:
            raise
        print(f"clew: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output has gone (`clew stream | head`): nothing to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if "--debug" in arguments:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"clew: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)
