"""What a user sees when something is wrong: what, where (file, row, column), and how to mend it.

Every mistake that a user can make raises a kind of `ClewError`; the command line prints it in one to four lines and
exits with 2. Programmers' mistakes stay `assert`s and keep their traceback.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any


class ClewError(ValueError):
    """A mistake with a place and a mend.

    Args:
        what: one sentence, what is wrong.
        file: the file it is in, if any.
        row: counted from 1 as an editor counts lines (the header is a line too).
        column: a column's name.
        hint: how to mend it.
    """

    def __init__(
        self,
        what: str,
        *,
        file: object = None,
        row: int | None = None,
        column: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.what, self.file, self.row, self.column, self.hint = what, file, row, column, hint
        super().__init__(str(self))

    def __str__(self) -> str:
        places = [str(self.file)] if self.file is not None else []
        if self.row is not None:
            places.append(f"row {self.row}")
        if self.column is not None:
            places.append(f"column '{self.column}'")
        where = f"{', '.join(places)}: " if places else ""
        hint = f"\nhint: {self.hint}" if self.hint else ""
        return f"{where}{self.what}{hint}"


class ShapeError(ClewError):
    """A tensor or an option that does not fit the module."""


class DataError(ClewError):
    """A source that cannot be read as asked."""


class ConfigError(ClewError):
    """A recipe or a command-line option that says something unknown or impossible."""


class RunError(ClewError):
    """A run folder, checkpoint or snapshot that is missing, damaged or cannot be written."""


class TrainingError(ClewError):
    """Training that cannot go on (a NaN, say); the last good weights are kept."""


class NotCausalError(ClewError):
    """A model that needs the future was asked to stream, decode or feed itself."""


def said(error: ClewError) -> dict[str, Any]:
    """An error as programs read it."""
    parts = {"what": error.what, "column": error.column, "hint": error.hint}
    return {"error": {name: part for name, part in parts.items() if part is not None}}


def shortly(value: object) -> str:
    """What a user gave, as a message can hold it: however long or deep."""
    return _SHORTLY.repr(value)


_SHORTLY = reprlib.Repr()
_SHORTLY.maxstring = _SHORTLY.maxother = _SHORTLY.maxlong = 40


class read_back:
    """Around what reads a saved object: what is missing there or of another kind is a RunError that names the file."""

    def __init__(self, file: object) -> None:
        self.file = file

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        placed = isinstance(error, RunError) and error.file is not None
        if isinstance(error, KeyError | TypeError | ValueError | OverflowError) and not placed:
            what = f"does not hold what this run needs: {error}"
            raise RunError(what, file=self.file, hint="train it again") from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest right name, or all of them when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
