"""Numbers as what a model reads: standardised, from columns, lists of steps, or images.

T steps, C channels
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from clew.data.images import read_images, scanned
from clew.data.lists import sequences
from clew.data.series import Scaler
from clew.data.split import key_of_array
from clew.data.table import Table, numeric, texts
from clew.errors import DataError, did_you_mean, shortly

Layout = Literal["row", "wide", "lists", "images", "steps"]
Scan = Literal["rows", "columns", "pixels"]
LAYOUTS, SCANS = get_args(Layout), get_args(Scan)
LARGEST = sys.float_info.max
Raw = np.ndarray  # (T, C)


@dataclass(frozen=True)
class NumberInput:
    """Numbers of one or more columns.

    Args:
        channels: C.
        scan: how lists of steps, and images, are read; see `images.scanned`.
        colours: numbers of a pixel.
        image: height and width of an image, where they are given.
        alike: whether all channels have one mean and one deviation, as pixels do.
    """

    columns: list[str]
    layout: Layout
    channels: int = 0
    group: str = ""
    scaler: Scaler | None = None
    scan: Scan = "rows"
    colours: int = 1
    image: tuple[int, ...] = ()
    alike: bool = False

    def read(self, table: Table) -> list[Raw]:
        """Raises DataError where a cell is no number, or a row does not hold whole steps."""
        if self.layout == "images":
            images = read_images(table, self.columns[0], self.image, self.colours)
            return [scanned(image, self.scan, self.colours) for image in images]
        if self.layout == "lists":
            return [scanned(steps, self.scan, self.colours) for steps in sequences(table, self.columns)]
        values = np.stack([numeric(table, name) for name in self.columns], 1)
        if self.layout == "steps":
            return [values[rows] for rows in self.rows(table)]
        return list(values.reshape(len(values), -1, self.channels or values.shape[1]))

    def rows(self, table: Table) -> list[np.ndarray]:
        """Which rows of the table belong to each record, in the order of their first."""
        if self.layout != "steps":
            return [np.array([i]) for i in range(table.rows)]
        if not self.group:
            return [np.arange(table.rows)]
        _, first, which, n = np.unique(
            texts(table, self.group), return_index=True, return_inverse=True, return_counts=True
        )
        of_group = np.split(np.argsort(which, kind="stable"), np.cumsum(n)[:-1])
        return [of_group[i] for i in np.argsort(first)]

    def keys(self, raws: Sequence[Raw]) -> Sequence[Hashable]:
        return [key_of_array(raw) for raw in raws]

    def fit(self, raws: Sequence[Raw], *_: object, **__: object) -> NumberInput:
        widths = {raw.shape[1] for raw in raws}
        if len(widths) > 1:
            what = f"steps of {min(widths)} and of {max(widths)} numbers cannot be learned together"
            raise DataError(what, column=self.columns[0], hint="bring images to one size with data.image = [H, W]")
        steps = np.concatenate(raws)
        channels = steps.shape[1]
        scaler = Scaler.fit(steps.reshape(-1, 1) if self.alike else steps)
        if self.alike:
            scaler = Scaler(np.repeat(scaler.mean, channels), np.repeat(scaler.std, channels))
        return replace(self, scaler=scaler, channels=channels)

    def encode(self, raw: Raw) -> np.ndarray:
        """(T, C) standardised."""
        assert self.scaler is not None, "fit comes first"
        if raw.shape[1] != self.channels:
            raise DataError(f"has {raw.shape[1]} channels, the model reads {self.channels}")
        return self.scaler.single(raw)

    def from_line(self, value: Any, before: Any = None) -> tuple[np.ndarray, Any]:
        """The step that a line of a stream brings, or the steps of a chunk of it; see `steps_of_line`."""
        return self.encode(steps_of_line(value, self.channel_names)), None

    @property
    def channel_names(self) -> list[str]:
        """What the numbers of a step are called."""
        named = len(self.columns) == self.channels
        return self.columns if named else [str(channel) for channel in range(1, self.channels + 1)]

    @property
    def frame(self) -> tuple[int, int, int] | None:
        """Height, width and colours of the image that each step is; None where a step is none."""
        pixels = int(np.prod(self.image)) if self.image else 0
        colours = self.channels // pixels if pixels else 0
        if not pixels or self.scan != "rows" or colours * pixels != self.channels:
            return None
        return (self.image[0], self.image[1], colours) if colours in (1, 3, self.colours) else None

    def to_json(self) -> dict[str, Any]:
        assert self.scaler is not None, "fit comes first"
        fixed = {"kind": "numbers", "columns": self.columns, "layout": self.layout, "channels": self.channels}
        read = {"scan": self.scan, "colours": self.colours, "image": list(self.image), "alike": self.alike}
        return {**fixed, "group": self.group, "scaler": self.scaler.to_json(), **read}


def steps_of_line(value: Any, names: Sequence[str]) -> np.ndarray:
    """The steps (T, C) that a line of a stream has: one as `numbers_of` reads it, a list of such, or an array (T, C).

    Raises:
        DataError: as `numbers_of`, with the number of the step where there are several.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple) or not value or not isinstance(value[0], list | tuple | dict):
        return numbers_of(value, names)[None]
    steps = []
    for t, step in enumerate(value, 1):
        try:
            steps.append(numbers_of(step, names))
        except DataError as error:
            raise DataError(f"step {t} of the chunk: {error.what}", column=error.column, hint=error.hint) from error
    return np.stack(steps)


def _is_plain(number: object) -> bool:
    return type(number) in (float, int) and -LARGEST <= number <= LARGEST  # pyright: ignore[reportOperatorIssue]


def numbers_of(value: Any, names: Sequence[str]) -> np.ndarray:
    """The numbers (C,) of one step as a line of a stream has them: a number, a list of one a column, or an object.

    Raises:
        DataError: one is missing, unknown, not a number or not finite.
    """
    if type(value) is list and len(value) == len(names) and all(map(_is_plain, value)):  # nearly always, and quicker
        return np.array(value, dtype=np.float64)
    if isinstance(value, Mapping):
        for name in names:
            if name not in value:
                hint = f"the model reads {', '.join(names)}"
                other = next((str(other)[:60] for other in value if other not in names), None)
                if other is not None:
                    hint = f"'{other}' is no column that the model reads; {did_you_mean(other, names)}"
                raise DataError("missing", column=name, hint=hint)
        value = [value[name] for name in names]
    elif isinstance(value, int | float):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != len(names):
        raise DataError(
            f"expected {len(names)} numbers a step ({', '.join(names)}), got {shortly(value)}",
            hint=f"one JSON line a step: {{{', '.join(f'{name!r}: 1.0' for name in names)}}}".replace("'", '"'),
        )
    for name, number in zip(names, value, strict=True):
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= LARGEST:
            raise DataError(f"{shortly(number)} is not a finite number", column=name)
    return np.array(value, dtype=np.float64)
