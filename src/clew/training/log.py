"""What a run writes down (`log.jsonl`) and what it says (stderr; a bar only on a terminal)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from clew.training.files import cannot_write, plain, write_atomic


class Log:
    """One JSON object per line and validation, so that a run can be followed while it goes on.

    Args:
        path: the file, or None to write nothing.
        step: lines of later steps, and a last line cut short, are dropped: a resumed run's log equals the log of a
            run that was never stopped. 0 begins a new file.
    """

    def __init__(self, path: Path | None, step: int) -> None:
        self.path = path
        if path is not None:
            old = path.read_bytes().splitlines() if step and path.exists() else []
            kept = [line for line in old if _step(line) <= step]
            write_atomic(path, b"".join(line + b"\n" for line in kept))

    def write(self, line: dict[str, Any]) -> None:
        """Append a line. Raises RunError if it cannot be written."""
        if self.path is None:
            return
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(plain(line)) + "\n")
        except OSError as error:
            raise cannot_write(self.path, error) from error


class Talk:
    """Progress on stderr.

    Args:
        progress: None shows a bar if stderr is a terminal; True also says a line per validation where it is none; False
            says nothing at all. Colour follows NO_COLOR (rich honours it).
    """

    def __init__(self, progress: bool | None, total: int) -> None:
        self.speaks, self.lines = progress is not False, progress is True
        self._bar = self._task = None
        if self.speaks and sys.stderr.isatty():
            from rich.console import Console  # only here: it costs a script without a terminal its start
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = [TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
            console = Console(stderr=True)
            self._bar = Progress(*columns, TextColumn("{task.description}"), console=console, transient=True)
            self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Talk:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """A line for the reader."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        elif self.speaks:
            print(text, file=sys.stderr, flush=True)

    def step(self, step: int) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step)

    def validation(self, line: dict[str, Any]) -> None:
        """Show a line of the log."""
        valid = " ".join(f"{name} {value:.4g}" for name, value in line["valid"].items())
        loss = f"loss {line['loss']:.4g}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=f"{loss} | {valid}")
        elif self.lines:
            self.say(f"step {line['step']} epoch {line['epoch']:.2f} {loss} | {valid}")


def _step(line: bytes) -> float:
    """The step of a log line; a damaged one counts as later than all."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
