"""`clew stream`: lines in, JSON lines out, the state carried, in constant memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from clew.cli.show import print_json
from clew.errors import DataError
from clew.stream import Session
from clew.tasks import load
from clew.tasks.base import Streamed


def stream(
    run: Annotated[str, typer.Argument(help="A run folder.", metavar="RUN")],
    horizon: Annotated[int, typer.Option(help="Steps to forecast at each step; default: those of the run.")] = 0,
) -> None:
    """Read steps from stdin, a line at a time, and answer each line.

    Numbers: a JSON line is a number, a list with one number per column, or an object by column name. Text: a line is
    taken as it stands (its end included where the model writes text), or is a JSON string or {"text": "..."}. Sound: a
    line is a JSON list of samples from -1 to 1, as many as there are, or {"samples": [...]}.
    {"reset": true} begins anew.
    """
    trained = load(run)
    try:
        _answer_lines(Session(trained, horizon), trained)
    except KeyboardInterrupt:  # the way to leave a stream that has no end
        raise typer.Exit(130) from None


def _answer_lines(session: Session, trained: Streamed) -> None:
    for row, line in enumerate(_lines(), 1):
        if not line.strip() and not trained.reads_text:
            continue
        try:
            value = _value(line if trained.reads_line_ends else line.rstrip("\r\n"), trained.reads_text)
            if value == {"reset": True}:
                session.reset()
                continue
            answer = session.push(value)
        except DataError as error:
            raise DataError(error.what, file="stdin", row=row, column=error.column, hint=error.hint) from error
        if answer:
            print_json({"step": session.steps, **answer})


def _lines() -> Iterator[str]:
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:  # somewhere in a block that was read ahead, so that no row can be named
        raise DataError(f"not UTF-8: {error.reason}", file="stdin", hint="write it as UTF-8: iconv -t UTF-8") from error


def _value(line: str, reads_text: bool) -> Any:
    """What a line says. Text needs no quotes: what is no JSON string or object is the text itself."""
    try:
        value = json.loads(line)
    except ValueError as error:
        if reads_text:
            return line
        raise DataError(
            f"not JSON: {line.strip()[:60]!r}", hint="a line is a number, a list of numbers or an object"
        ) from error
    return line if reads_text and not isinstance(value, str | dict | list) else value
