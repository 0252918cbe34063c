"""Two text files that say the same line by line, `a.en` and `a.fr`, as one table with a column each."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import polars as pl

from clew.data.formats.plain import checked
from clew.data.table import Table
from clew.errors import DataError

JOINT = "+"


def named(source: str | Path) -> tuple[Path, Path] | None:
    """The two files that `FIRST+SECOND` names; None where it is the name of one file, or of none.

    A "+" may stand in the names too: the files that are there decide. Where only the first is, they are named all the
    same, so that reading them says which is missing.
    """
    name = str(source)
    if JOINT not in name or Path(name).exists():
        return None
    cuts = [(Path(name[:i]), Path(name[i + 1 :])) for i, letter in enumerate(name) if letter == JOINT]
    ranked = sorted(cuts, key=lambda files: files[1].is_file(), reverse=True)
    return next((files for files in ranked if files[0].is_file()), None)


def read(first: str | Path, second: str | Path) -> Table:
    """The lines of two files, plain or .gz, side by side: first the source, then the target.

    The columns are called by what tells the files apart: their endings (en, fr), else their stems, else "source" and
    "target". Only a line feed ends a line, with or without a carriage return; other marks at which some programs break
    a line may stand within a sentence.

    Raises:
        DataError: a file that cannot be read or is no text, an empty line, not as many lines in both.
    """
    files = (Path(first), Path(second))
    contents = [_content(file) for file in files]
    found = [_lines(file, content) for file, content in zip(files, contents, strict=True)]
    if len(found[0]) != len(found[1]):
        what = f"has {len(found[0]):,} lines, where {second} has {len(found[1]):,}"
        hint = "line n of one must belong to line n of the other; look for a line break too many"
        raise DataError(what, file=first, hint=hint)
    for file, texts in zip(files, found, strict=True):
        for row, text in enumerate(texts, 1):
            if not text.strip():
                hint = "write a text into it, or drop this line from both files"
                raise DataError("the line is empty", file=file, row=row, hint=hint)
    frame = pl.DataFrame(dict(zip(_columns(files), found, strict=True)))
    digest = hashlib.sha256("".join(hashlib.sha256(content).hexdigest() for content in contents).encode()).hexdigest()
    return Table(f"{first}{JOINT}{second}", frame, True, digest, range(1, len(found[0]) + 1))


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise DataError("no such file", file=file, hint="two files line by line: FIRST+SECOND") from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=file) from error


def _lines(file: Path, content: bytes) -> list[str]:
    if file.suffix.lower() == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError("is not a whole .gz file", file=file, hint="copy it again") from error
    text = checked(str(file), content).decode()
    if not text.strip():
        raise DataError("is empty", file=file, hint="write a text a line into it")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _columns(files: tuple[Path, Path]) -> tuple[str, str]:
    names = [file.name[:-3] if file.suffix.lower() == ".gz" else file.name for file in files]
    (stem, ending), (other_stem, other_ending) = ((Path(name).stem, Path(name).suffix[1:]) for name in names)
    if ending and other_ending and ending != other_ending:
        return ending, other_ending
    return (stem, other_stem) if stem != other_stem else ("source", "target")
