"""Tables from files: CSV, TSV (also .gz), Parquet, and the samples that ship with the package.

Cells of text files stay text until a column is asked for as numbers, so that a bad one can be named by file, row and
column. Rows are counted as an editor counts lines, the header included.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import io
import zlib
from importlib import resources
from pathlib import Path

import polars as pl

from clew.data.delimited import parse
from clew.data.table import Table, column_name, guess_target, is_time_like, numeric, numeric_columns
from clew.errors import DataError, did_you_mean

__all__ = [
    "Table",
    "column_name",
    "guess_target",
    "is_time_like",
    "numeric",
    "numeric_columns",
    "read_table",
    "samples",
]

SEPARATORS = {".csv": "\t;,", ".tsv": "\t"}
KINDS = "known: .csv, .tsv (also .gz), .parquet"


def samples() -> list[str]:
    """The names that `sample:NAME` knows."""
    return sorted(
        entry.name.removesuffix(".csv")
        for entry in (resources.files("clew.data") / "samples").iterdir()
        if entry.name.endswith(".csv")
    )


def read_table(source: str | Path) -> Table:
    """Read a file or `sample:NAME`.

    Raises:
        DataError: no such file or sample, another format, an empty or damaged file, a ragged row.
    """
    name = str(source)
    if name.startswith("sample:"):
        sample = name.removeprefix("sample:")
        if sample not in samples():
            raise DataError(f"no sample '{sample}'", hint=did_you_mean(sample, samples()))
        content = (resources.files("clew.data") / "samples" / f"{sample}.csv").read_bytes()
        return _text_table(name, content, content, SEPARATORS[".csv"])
    path = Path(source)
    zipped = path.suffix.lower() == ".gz"
    suffix = Path(path.stem).suffix.lower() if zipped else path.suffix.lower()
    try:
        if path.is_dir():
            raise DataError("is a folder", file=name, hint="name the files in it")
        if not path.exists():
            raise DataError("no such file", file=name, hint=_nearest(path))
        if suffix not in SEPARATORS and (suffix != ".parquet" or zipped):
            raise DataError(f"unknown kind of file '{path.suffix}'", file=name, hint=KINDS)
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=name) from error
    if suffix == ".parquet":
        return _parquet(name, content)
    return _text_table(name, content, _unzipped(name, content) if zipped else content, SEPARATORS[suffix])


def _text_table(name: str, raw: bytes, content: bytes, separators: str) -> Table:
    cells = parse(name, content, separators)
    columns = {column: [row[i] for row in cells.rows] for i, column in enumerate(cells.names)}
    frame = pl.DataFrame(columns, schema=dict.fromkeys(cells.names, pl.String))
    return Table(name, frame, cells.header, hashlib.sha256(raw).hexdigest(), cells.lines, cells.decimal_comma)


def _parquet(name: str, content: bytes) -> Table:
    try:
        frame = pl.read_parquet(io.BytesIO(content))
    except (Exception, pl.exceptions.PanicException) as error:  # a panic, which damage can cause, is no Exception
        raise DataError("is not a whole Parquet file", file=name, hint="write it again") from error
    if not frame.height:
        raise DataError("holds no rows", file=name, hint="write it again with the measurements in it")
    return Table(name, frame, True, hashlib.sha256(content).hexdigest(), range(1, frame.height + 1))


def _unzipped(name: str, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("is not a whole .gz file", file=name, hint="copy it again") from error


def _nearest(path: Path) -> str | None:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean '{path.with_name(near[0])}'?" if near else None
