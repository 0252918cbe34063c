"""The .ts files of the UCR and UEA archives: a series a line, its channels parted by colons, its class behind them.

A row of the table is a series: the columns "1", "2", ... hold the list of a channel's numbers, "class" or "target"
what belongs to it.
"""

from __future__ import annotations

import io
import math

import numpy as np
import polars as pl

from clew.data.formats.plain import checked
from clew.errors import DataError


def parse(name: str, content: bytes) -> tuple[pl.DataFrame, list[int]]:
    """The table, and the line of each series.

    Raises:
        DataError: a line that is not what the header says, a value that is missing, time stamps in the series.
    """
    said: dict[str, list[str]] = {}
    series: list[list[np.ndarray]] = []
    answers: list[str] = []
    lines: list[int] = []
    begun = False
    for line, raw in enumerate(io.BytesIO(checked(name, content)), 1):
        row = raw.decode().strip()
        if not row or row.startswith("#"):
            continue
        if not begun:
            if not row.startswith("@"):
                raise DataError(
                    f"'{row[:30]}' stands before @data", file=name, row=line, hint="the header ends in @data"
                )
            key, *values = row[1:].split() or [""]
            said[key.lower()] = values
            begun = key.lower() == "data"
            if _is_true(said.get("timestamps")):
                raise DataError("time stamps in series are not read", file=name, row=line, hint="write values alone")
            continue
        channels, answer = _series(name, line, row, said)
        if series and len(channels) != len(series[0]):
            what = f"{len(channels)} channels, where the first series has {len(series[0])}"
            raise DataError(what, file=name, row=line, hint="part channels by ':', values by ','")
        series.append(channels)
        answers.append(answer)
        lines.append(line)
    if not series:
        what = "holds no series" if begun else "has no @data, so it is no .ts file"
        raise DataError(what, file=name, hint="the header ends in @data, then a series a line")
    columns: dict[str, pl.Series] = {}
    for i in range(len(series[0])):
        channel = pl.Series([channels[i] for channels in series])  # an Array, where all are of one length
        columns[str(i + 1)] = channel.cast(pl.List(pl.Float64))
    if _is_true(said.get("targetlabel")):
        columns["target"] = pl.Series([_number(name, n, a) for n, a in zip(lines, answers, strict=True)])
    elif _is_true(said.get("classlabel")):
        columns["class"] = pl.Series(answers, dtype=pl.String)
    return pl.DataFrame(columns), lines


def _series(name: str, line: int, row: str, said: dict[str, list[str]]) -> tuple[list[np.ndarray], str]:
    parts, answer = row.split(":"), ""
    labelled = _is_true(said.get("classlabel")) or _is_true(said.get("targetlabel"))
    if labelled:
        *parts, answer = parts
        answer = answer.strip()
        known = said.get("classlabel", [])[1:]
        if known and answer not in known:
            what = f"the class '{answer[:30]}' is not one of @classLabel"
            raise DataError(what, file=name, row=line, hint=f"known: {', '.join(known[:12])}")
    dimensions = said.get("dimensions", said.get("dimension", []))
    wanted = int(dimensions[0]) if dimensions and dimensions[0].isdecimal() else len(parts)
    if len(parts) != wanted or not parts:
        what = f"{len(parts)} channels, where @dimensions says {wanted}"
        raise DataError(what, file=name, row=line, hint="part channels by ':', values by ','")
    channels = [np.array([_number(name, line, cell) for cell in part.split(",")]) for part in parts]
    if len({len(channel) for channel in channels}) > 1:
        what = f"channels of {' and '.join(str(n) for n in sorted({len(c) for c in channels}))} steps in one series"
        raise DataError(what, file=name, row=line, hint="each channel needs a value at each step")
    length = said.get("serieslength", [])
    if _is_true(said.get("equallength")) and length and length[0].isdecimal() and len(channels[0]) != int(length[0]):
        what = f"{len(channels[0])} steps, where @seriesLength says {length[0]}"
        raise DataError(what, file=name, row=line, hint="mend the line, or write @equalLength false")
    return channels, answer


def _number(name: str, line: int, cell: str) -> float:
    try:
        value = math.nan if "_" in cell else float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        empty = cell.strip().lower() in ("?", "nan", "")
        what = "a value is missing" if empty else f"'{cell.strip()[:30]}' is not a number"
        raise DataError(what, file=name, row=line, hint="fill it in or drop the series; clew does not guess")
    return value


def _is_true(values: list[str] | None) -> bool:
    return bool(values) and values[0].lower() == "true"  # pyright: ignore[reportOptionalSubscript]
