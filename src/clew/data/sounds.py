"""Sounds as what a model reads: a column of paths to log-mel frames, and a stream of samples to the same ones."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from clew.data.audio import SUFFIXES, LogMel, Sound, read_sound
from clew.data.series import Scaler
from clew.data.split import key_of_array
from clew.data.table import TEXTS, Table, texts
from clew.errors import DataError, shortly

FILE = "file"  # the column of a table that is nothing but sound files
MOST = 1.5  # a sample of a stream, a little clipped or not
LINE = 'a line is a list of samples from -1 to 1, or {"samples": [...]}'


@dataclass(frozen=True)
class AudioInput:
    """Files that a column names, from the folder of their table."""

    column: str
    front: LogMel
    scaler: Scaler | None = None

    @property
    def columns(self) -> list[str]:
        return [self.column]

    @property
    def channels(self) -> int:
        return self.front.mels

    @property
    def channel_names(self) -> list[str]:
        """What the numbers of a step are called: logarithms of energies, before they are standardised."""
        return [f"mel {i}" for i in range(1, self.channels + 1)]

    @property
    def frame(self) -> None:
        """A frame of sound is no image."""

    def read(self, table: Table) -> list[np.ndarray]:
        """The frames (T, M) of each row's sound. Raises DataError, with the row, for one that cannot be used."""
        column = self.column if self.column in table.columns or FILE not in table.columns else FILE
        found = []
        for row, name in zip(table.lines, texts(table, column), strict=True):
            frames = self.front.of(_read(table, row, column, name, self.front.rate))
            if not len(frames):
                what, hint = f"{Path(name).name} is shorter than one frame", "record it again, or drop its row"
                raise DataError(what, file=table.name, row=row, column=column, hint=hint)
            found.append(frames)
        return found

    def keys(self, raws: Sequence[np.ndarray]) -> Sequence[Hashable]:
        return [key_of_array(raw) for raw in raws]

    def fit(self, raws: Sequence[np.ndarray], *_: object, **__: object) -> AudioInput:
        return replace(self, scaler=Scaler.fit(np.concatenate(raws).astype(np.float64)))

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """(T, M) standardised."""
        assert self.scaler is not None, "fit comes first"
        return self.scaler.apply(raw).astype(np.float32)

    def from_line(self, value: Any, before: Any = None) -> tuple[np.ndarray, Any]:
        """The frames that a line of samples completes, and the samples that the next line needs."""
        if isinstance(value, Mapping):
            value = value.get("samples")
        if not isinstance(value, list):
            raise DataError(f"expected samples, got {shortly(value)}", hint=LINE)
        for sample in value:
            if isinstance(sample, bool) or not isinstance(sample, int | float):
                raise DataError(f"{shortly(sample)} is no number", hint=LINE)
            if not -MOST <= sample <= MOST:
                raise DataError("samples must lie between -1 and 1", hint="divide 16-bit samples by 32768")
        samples = np.array(value, dtype=np.float32)
        frames, rest = self.front.frames(torch.from_numpy(samples), self.front.silence() if before is None else before)
        return self.encode(frames.numpy()), rest

    def to_json(self) -> dict[str, Any]:
        assert self.scaler is not None, "fit comes first"
        return {"kind": "audio", "column": self.column, "front": self.front.to_json(), "scaler": self.scaler.to_json()}


def find_sounds(table: Table, names: Sequence[str], mels: int) -> AudioInput | None:
    """The first of these columns that names sound files; None where none does.

    Raises:
        DataError: its first file cannot be read.
    """
    for name in names:
        if names_sounds(table, name):
            first = _read(table, table.lines[0], name, texts(table, name)[0])
            return AudioInput(name, LogMel(first.rate, mels))
    return None


def names_sounds(table: Table, name: str) -> bool:
    """Whether most cells of a column that hold anything are the names of sound files; one that is not is a mistake."""
    cells = table.column(name).drop_nulls().to_list() if table.schema[name] in TEXTS else []
    cells = [cell.strip().lower() for cell in map(str, cells) if cell.strip()]
    return sum(cell.endswith(SUFFIXES) for cell in cells) > len(cells) / 2


def _read(table: Table, row: int, column: str, name: str, rate: int = 0) -> Sound:
    """A sound that a row names, and what is wrong with it in the words of that row."""
    if not name.strip():
        raise DataError(
            "the cell is empty", file=table.name, row=row, column=column, hint="name a file, or drop the row"
        )
    try:
        return read_sound(beside(table, name), rate)
    except DataError as error:
        what = f"there is no file {name}" if error.what == "no such file" else f"{Path(name).name} {error.what}"
        raise DataError(what, file=table.name, row=row, column=column, hint=error.hint) from error


def beside(table: Table, name: str) -> Path:
    """A file that a table names, from the table's folder."""
    return Path(table.name).parent / name.strip()


def table_of(name: str, files: Sequence[Path], sha256: str) -> Table:
    """Sound files as a table, a row each."""
    try:
        frame = pl.DataFrame({FILE: [str(file.resolve()) for file in files]})
    except UnicodeEncodeError as error:
        raise DataError("has a name that is no UTF-8", file=repr(name), hint="give it another one") from error
    return Table(name, frame, True, sha256, range(1, len(files) + 1))
