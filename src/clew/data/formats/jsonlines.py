"""JSON lines: an object a line; its keys are columns, in the order in which they first appear. Where every line is a
list, that is the one column, `steps`.

A value is a number, a text, true or false, null, a list of numbers or of texts, or a list of steps (lists of numbers).
"""

from __future__ import annotations

import io
import json
import re
from typing import Any

import polars as pl

from clew.data.formats.plain import checked
from clew.errors import DataError

KINDS: dict[str, Any] = {
    "": pl.String,  # nothing but null
    "number": pl.Float64,
    "whole number": pl.Int64,
    "text": pl.String,
    "truth value": pl.Boolean,
    "empty list": pl.List(pl.String),
    "list of texts": pl.List(pl.String),
    "list of numbers": pl.List(pl.Float64),
    "list of steps": pl.List(pl.List(pl.Float64)),
}
PLAIN = {type(None): "", float: "number", bool: "truth value"}
ALONE = "steps"
LARGEST = 2**63
KEY = re.compile(r'"\s*:')  # as many as there are keys, or more
CHUNK = 1 << 23  # bytes of lines that are held as Python objects at once


def parse(name: str, content: bytes) -> tuple[pl.DataFrame, list[int]]:
    """The table, and the line of each row.

    Raises:
        DataError: a line that is no JSON or no object, a value of another kind than the column's others.
    """
    content = checked(name, content)
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    kinds: dict[str, str] = {}
    chunks: list[pl.DataFrame] = []
    held = 0
    for line, text in enumerate(io.BytesIO(content), 1):
        if not text.strip():
            continue
        row = _object(name, line, text.decode(), alone=not lines or kinds.keys() == {ALONE})
        for column, value in row.items():
            kind = PLAIN.get(type(value))
            if kind is None:
                kind = _kind(name, line, column, value)
            if column not in kinds:
                if not _is_text(column):
                    raise DataError(f"no name for a column: {column!a}", file=name, row=line, hint="rename it")
                kinds[column] = kind
            elif kind and kind != kinds[column]:
                kinds[column] = _joined(kinds[column], kind, name, line, column)
        rows.append(row)
        lines.append(line)
        held += len(text)
        if held > CHUNK and kinds:
            chunks.append(_frame(rows, kinds))
            rows, held = [], 0
    if not lines:
        raise DataError("is empty", file=name, hint="write an object a line")
    if not kinds:
        raise DataError("holds objects without keys", file=name, hint='{"text": "...", "label": "..."}')
    types = {column: KINDS[kind] for column, kind in kinds.items()}
    chunks.append(_frame(rows, kinds))
    return pl.concat([_completed(chunk, types) for chunk in chunks]), lines


def _frame(rows: list[dict[str, Any]], kinds: dict[str, str]) -> pl.DataFrame:
    columns = {
        column: pl.Series(column, [row.get(column) for row in rows], dtype=KINDS[kind], strict=False)
        for column, kind in kinds.items()
    }
    return pl.DataFrame(columns, height=len(rows))


def _completed(chunk: pl.DataFrame, types: dict[str, Any]) -> pl.DataFrame:
    """With the columns that came later, and those that turned out to be of another kind."""
    return chunk.select(
        pl.col(column).cast(dtype) if column in chunk.columns else pl.lit(None, dtype).alias(column)
        for column, dtype in types.items()
    )


def _object(name: str, line: int, text: str, alone: bool) -> dict[str, Any]:
    try:
        row = json.loads(text)
        if isinstance(row, dict) and len(row) == len(KEY.findall(text)):
            return row
        if alone and isinstance(row, list):
            return {ALONE: row}
        row = json.loads(text, object_pairs_hook=_Pairs)  # half as fast, but tells of keys that come twice
    except json.JSONDecodeError as error:
        reason = error.msg.lower()
    except RecursionError:
        reason = "nested too deeply"
    except ValueError:
        reason = "a number is too long"
    else:
        if isinstance(row, _Pairs):
            found = dict(row)
            if len(found) < len(row):
                keys = [key for key, _ in row]
                twice = next(key for i, key in enumerate(keys) if key in keys[:i])
                raise DataError("a key twice in one object", file=name, row=line, column=twice, hint="leave one out")
            return found
        hint = 'write {"text": ..., "label": ...} or {"steps": [...]}, one a line'
        raise DataError(f"is not an object: {text.strip()[:40]}", file=name, row=line, hint=hint)
    raise DataError(f"is not JSON: {reason}", file=name, row=line, hint="write one object a line")


class _Pairs(list[tuple[str, Any]]):
    """An object as it stands, keys that come twice included."""


def _kind(name: str, line: int, column: str, value: Any) -> str:
    """What a value is that is not plain, in words."""
    if isinstance(value, str) and _is_text(value):
        return "text"
    if _is_number(value):
        return "whole number"
    if isinstance(value, list) and not isinstance(value, _Pairs):
        if not value:
            return "empty list"
        if all(isinstance(part, str) and _is_text(part) for part in value):
            return "list of texts"
        if all(_is_number(part) or part is None for part in value):
            return "list of numbers"
        if all(type(part) is list and all(_is_number(x) or x is None for x in part) for part in value):
            return "list of steps"
    what = "an object within the object" if isinstance(value, dict | _Pairs) else "a value that no column can hold"
    hint = "use numbers, texts, or lists of either"
    raise DataError(what, file=name, row=line, column=column, hint=hint)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, float) or (isinstance(value, int) and -LARGEST <= value < LARGEST)


def _is_text(value: str) -> bool:
    """Whether it can be written as UTF-8: JSON may escape half a letter, a lone surrogate."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _joined(before: str, kind: str, name: str, line: int, column: str) -> str:
    """The kind of a column that has held `before` and now holds `kind`."""
    if not before or before == kind:
        return kind
    if {before, kind} == {"number", "whole number"}:
        return "number"
    if before == "empty list" and kind.startswith("list"):
        return kind
    if kind == "empty list" and before.startswith("list"):
        return before
    what = f"{_a(kind)}, where the column held {_a(before)} before"
    raise DataError(what, file=name, row=line, column=column, hint="write the whole column as one kind")


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
