"""Files to tables: delimited text, Parquet, JSON lines, plain text, CoNLL and .ts, each plain or .gz, NumPy's arrays,
sounds, images, and the samples that ship with the package.

A cell is a number, a text, or a list of either; so every task reads one thing.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import zlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import polars as pl

from clew.data import audio, parallel, sounds
from clew.data.formats import arrays, conll, delimited, jsonlines, plain, timeseries
from clew.data.table import Table
from clew.errors import DataError, did_you_mean

__all__ = ["Table", "read_table", "samples"]

SEPARATORS = {".csv": "\t;,", ".tsv": "\t", **dict.fromkeys((".data", ".dat", ".tra", ".tes"), "\t;,")}
LINES: dict[str, Callable[[str, bytes], tuple[pl.DataFrame, list[int]]]] = {
    ".jsonl": jsonlines.parse,
    ".ndjson": jsonlines.parse,
    ".txt": plain.parse,
    ".text": plain.parse,
    ".md": plain.parse,
    ".conll": conll.parse,
    ".bio": conll.parse,
    ".iob": conll.parse,
    ".iob2": conll.parse,
    ".conllu": conll.parse_conllu,
    ".ts": timeseries.parse,
}
ARRAYS = (".npz", ".npy")
KINDS = f"known: {', '.join([*SEPARATORS, *LINES])} (also .gz), .parquet, {', '.join([*ARRAYS, *audio.SUFFIXES])}"
BLOCK = 1 << 20


def samples() -> list[str]:
    """The names that `sample:NAME` knows."""
    return sorted(_sample_files())


def read_table(source: str | Path, header: bool | None = None) -> Table:
    """Read a file, a folder of plain texts or of sounds, `sample:NAME`, or two texts line by line, `FIRST+SECOND`.

    Args:
        header: whether the first row of delimited text names its columns; None to tell by its cells.

    Raises:
        DataError: no such file or sample, another format, an empty or damaged file, a row that does not fit.
    """
    name = str(source)
    if name.startswith("sample:"):
        return _sample(name, header)
    if files := parallel.named(source):
        return parallel.read(*files)
    path = Path(source)
    try:
        if path.is_dir():
            return _folder(name, path)
        if not path.exists():
            raise DataError("no such file", file=name, hint=_nearest(path))
        suffix, zipped = _suffix(path.name)
        if suffix == ".parquet" and not zipped:
            return _parquet(name, path)
        if suffix in audio.SUFFIXES and not zipped:
            return sounds.table_of(name, [path], hashlib.sha256(path.read_bytes()).hexdigest())
        if suffix in ARRAYS and not zipped:
            content = path.read_bytes()
            frame, rows = arrays.parse(name, content)
            return Table(name, frame, True, hashlib.sha256(content).hexdigest(), rows)
        if suffix not in SEPARATORS and suffix not in LINES:
            ending = "".join(path.suffixes[-2:]) if zipped else path.suffix
            raise DataError(f"unknown kind of file '{ending}'", file=name, hint=KINDS)
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=name) from error
    return _text(name, suffix, content, zipped, header)


def _suffix(name: str) -> tuple[str, bool]:
    """What kind of file a name tells, and whether it is compressed."""
    path = Path(name)
    zipped = path.suffix.lower() == ".gz"
    return (Path(path.stem) if zipped else path).suffix.lower(), zipped


def _text(name: str, suffix: str, raw: bytes, zipped: bool, header: bool | None) -> Table:
    digest = hashlib.sha256(raw).hexdigest()
    content = _unzipped(name, raw) if zipped else raw
    if suffix in LINES:
        frame, lines = LINES[suffix](name, content)
        return Table(name, frame, True, digest, lines)
    cells = delimited.parse(name, content, SEPARATORS[suffix], header)
    return Table(name, cells.frame, cells.header, digest, cells.lines, cells.decimal_comma)


def _sample_files() -> dict[str, str]:
    folder = resources.files("clew.data") / "samples"
    files = [entry.name for entry in folder.iterdir() if _suffix(entry.name)[0] in (*SEPARATORS, *LINES)]
    return {file.split(".")[0]: file for file in files if not file.startswith("README")}


def _sample(name: str, header: bool | None) -> Table:
    sample, known = name.removeprefix("sample:"), _sample_files()
    if sample not in known:
        raise DataError(f"no sample '{sample}'", hint=did_you_mean(sample, known))
    content = (resources.files("clew.data") / "samples" / known[sample]).read_bytes()
    suffix, zipped = _suffix(known[sample])
    return _text(name, suffix, content, zipped, header)


def _folder(name: str, path: Path) -> Table:
    """Plain texts, a document each, or sounds, in the order of their names."""
    files = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    if files and all(file.suffix.lower() in audio.SUFFIXES for file in files):
        digest = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files))
        return sounds.table_of(name, files, digest.hexdigest())
    others = [file.name for file in files if LINES.get(_suffix(file.name)[0]) is not plain.parse]
    if others or not files:
        what = f"is a folder, and '{others[0]}' in it is no plain text" if others else "is a folder with nothing in it"
        raise DataError(what, file=name, hint="a folder may hold plain texts, or sounds; name other files one by one")
    tables = [read_table(file) for file in files]
    digest = hashlib.sha256("".join(table.sha256 for table in tables).encode()).hexdigest()
    frame = pl.concat([table.frame for table in tables])
    return Table(name, frame, True, digest, range(1, len(files) + 1))


def _parquet(name: str, path: Path) -> Table:
    """Read lazily: only the columns that are asked for."""
    try:
        lazy = pl.scan_parquet(path)
        rows = int(lazy.select(pl.len()).collect().item())
        schema = lazy.collect_schema()
    except (Exception, pl.exceptions.PanicException) as error:  # a panic, which damage can cause, is no Exception
        raise DataError("is not a whole Parquet file", file=name, hint="write it again") from error
    if not rows or not schema:
        raise DataError("holds no rows", file=name, hint="write it again with the measurements in it")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    lazy = lazy.with_columns(
        pl.col(column).cast(_lists(dtype)) for column, dtype in schema.items() if dtype.is_nested()
    )
    return Table(name, lazy, True, digest.hexdigest(), range(1, rows + 1))


def _lists(dtype: Any) -> Any:
    """A type with arrays of fixed length as lists."""
    return pl.List(_lists(dtype.inner)) if isinstance(dtype, pl.List | pl.Array) else dtype


def _unzipped(name: str, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("is not a whole .gz file", file=name, hint="copy it again") from error


def _nearest(path: Path) -> str | None:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean '{path.with_name(near[0])}'?" if near else None
