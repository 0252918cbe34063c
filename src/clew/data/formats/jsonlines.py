"""JSON lines: an object a line; its keys are columns, in the order in which they first appear.

A value is a number, a text, true or false, null, a list of numbers or of texts, or a list of steps (lists of numbers).
"""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from clew.data.formats.plain import decoded
from clew.errors import DataError

KINDS: dict[str, Any] = {
    "number": pl.Float64,
    "whole number": pl.Int64,
    "text": pl.String,
    "truth value": pl.Boolean,
    "list of texts": pl.List(pl.String),
    "list of numbers": pl.List(pl.Float64),
    "list of steps": pl.List(pl.List(pl.Float64)),
}
LARGEST = 2**63


def parse(name: str, content: bytes) -> tuple[pl.DataFrame, list[int]]:
    """The table, and the line of each row.

    Raises:
        DataError: a line that is no JSON or no object, a value of another kind than the column's others.
    """
    rows, lines = [], []
    kinds: dict[str, str] = {}
    for line, text in enumerate(decoded(name, content).split("\n"), 1):
        if not text.strip():
            continue
        row = _object(name, line, text)
        for column, value in row.items():
            kind = _kind(name, line, column, value)
            if kind:
                kinds[column] = _joined(kinds.get(column, kind), kind, name, line, column)
            else:
                kinds.setdefault(column, "")
        rows.append(row)
        lines.append(line)
    if not rows:
        raise DataError("is empty", file=name, hint="write an object a line")
    if not kinds:
        raise DataError("holds objects without keys", file=name, hint='{"text": "...", "label": "..."}')
    columns = {
        column: pl.Series(column, [row.get(column) for row in rows], dtype=KINDS[kind or "text"], strict=False)
        for column, kind in kinds.items()
    }
    return pl.DataFrame(columns), lines


def _object(name: str, line: int, text: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deeply").lower()
        raise DataError(f"is not JSON: {reason}", file=name, row=line, hint="write one object a line") from error
    if not isinstance(row, dict):
        hint = 'write {"text": ..., "label": ...}, one a line'
        raise DataError(f"is not an object: {text.strip()[:40]}", file=name, row=line, hint=hint)
    return row


def _kind(name: str, line: int, column: str, value: Any) -> str:
    """What a value is, in words; "" for null and the empty list."""
    if value is None or value == []:
        return ""
    if isinstance(value, bool):
        return "truth value"
    if isinstance(value, str):
        return "text"
    if _is_number(value):
        return "whole number" if isinstance(value, int) else "number"
    if isinstance(value, list):
        if all(isinstance(part, str) for part in value):
            return "list of texts"
        if all(_is_number(part) or part is None for part in value):
            return "list of numbers"
        if all(isinstance(part, list) and all(_is_number(x) or x is None for x in part) for part in value):
            return "list of steps"
    what = "an object within the object" if isinstance(value, dict) else "a value that no column can hold"
    hint = "use numbers, texts, or lists of either"
    raise DataError(what, file=name, row=line, column=column, hint=hint)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, float) or (isinstance(value, int) and -LARGEST <= value < LARGEST)


def _joined(before: str, kind: str, name: str, line: int, column: str) -> str:
    """The kind of a column that has held `before` and now holds `kind`."""
    if not before or before == kind:
        return kind
    if {before, kind} == {"number", "whole number"}:
        return "number"
    what = f"a {kind}, where the column held a {before} before"
    raise DataError(what, file=name, row=line, column=column, hint="write the whole column as one kind")
