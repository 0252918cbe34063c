"""`clew stream`: lines in, JSON lines out, the state carried, in constant memory; kept in a file."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from clew.cli.show import print_json, say
from clew.errors import DataError, said, shortly
from clew.stream import Session
from clew.tasks import load
from clew.tasks.base import Streamed
from clew.training.files import write_atomic


def stream(
    run: Annotated[str, typer.Argument(help="A run folder.", metavar="RUN")],
    horizon: Annotated[
        int, typer.Option(help="Steps to forecast at each step; default: those of the run.", show_default=False)
    ] = 0,
    state: Annotated[
        Path | None,
        typer.Option(help="Go on from this file where it is there, and keep the stream in it, whatever ends it."),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Answer a line that the model does not read by what is wrong with it.")
    ] = False,
) -> None:
    """Read steps from stdin, a line at a time, and answer each line.

    Numbers: a JSON line is a number, a list with one number per column, or an object by column name. Text: a line is
    taken as it stands (its end included where the model writes text), or is a JSON string or {"text": "..."}. Sound: a
    line is a JSON list of samples from -1 to 1, as many as there are, or {"samples": [...]}.
    {"reset": true} begins anew.
    """
    trained = load(run)
    session = Session(trained, horizon)
    kept = Kept(session, state)
    try:
        with kept:
            _answer_lines(session, trained, kept, keep_going)
    except KeyboardInterrupt:  # the way to leave a stream that has no end
        raise typer.Exit(128 + kept.ended_by) from None


class Kept:
    """Around a stream: it is in its file whatever ends it, with all that was answered and nothing that was not.

    A signal ends a stream that waits for a line at once, and any other after its answer; a second one does not wait for
    that. What ends without a word (a power cut, a kill) costs the steps of SECONDS at most.
    """

    SECONDS = 10.0
    ENDS = ("SIGINT", "SIGTERM", "SIGHUP")  # the last where there is one

    def __init__(self, session: Session, file: Path | None) -> None:
        self.session, self.file, self.ended_by = session, file, signal.SIGINT
        self._busy = self._told = self._saving = False
        if file is not None:
            if file.exists():
                session.restore(file)
                say(f"goes on after step {session.steps:,}")
            self._answered = session.fork()
            self._save()  # now, rather than find out at the end that it cannot be written

    def __enter__(self) -> None:
        if self.file is not None:
            numbers = [getattr(signal, name) for name in self.ENDS if hasattr(signal, name)]
            heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._end) for number in heard}

    def __exit__(self, kind: object, *_: object) -> None:
        if self.file is None:
            return
        self._saving = True
        try:
            self._save()
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)
        if self._told and kind is None:
            raise KeyboardInterrupt

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Around a line and its answer."""
        self._busy = True
        try:
            yield
            if self.file is not None:
                self._answered = self.session.fork()
        finally:
            self._busy = False
        if self._told:
            raise KeyboardInterrupt
        if self.file is not None and time.monotonic() - self._saved > self.SECONDS:
            self._save()

    def _save(self) -> None:
        assert self.file is not None, "there is a file to keep it in"
        write_atomic(self.file, self._answered.snapshot())
        self._saved = time.monotonic()

    def _end(self, number: int, _: object) -> None:
        again, self.ended_by, self._told = self._told, signal.Signals(number), True
        if not self._saving and (again or not self._busy):
            raise KeyboardInterrupt


def _answer_lines(session: Session, trained: Streamed, kept: Kept, keep_going: bool) -> None:
    for row, line in enumerate(_lines(), 1):
        if not line.strip() and not trained.reads_text:
            continue
        with kept.answering():
            try:
                value = _value(line if trained.reads_line_ends else line.rstrip("\r\n"), trained.reads_text)
                if value == {"reset": True}:
                    session.reset()
                    continue
                answer = session.push(value)
            except DataError as error:
                if not keep_going:
                    raise DataError(error.what, file="stdin", row=row, column=error.column, hint=error.hint) from error
                print_json({"row": row, **said(error)})
                continue
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
    except (ValueError, RecursionError) as error:
        if reads_text:
            return line
        raise DataError(
            f"not JSON: {shortly(line.strip())}", hint="a line is a number, a list of numbers or an object"
        ) from error
    return line if reads_text and not isinstance(value, str | dict | list) else value
