"""Plain text, and how every text file is decoded."""

from __future__ import annotations

import polars as pl

from clew.errors import DataError


def parse(name: str, content: bytes) -> tuple[pl.DataFrame, list[int]]:
    """One document, as it stands, in the column "text".

    Raises:
        DataError: no UTF-8 text, or nothing in it.
    """
    text = decoded(name, content)
    if not text.strip():
        raise DataError("is empty", file=name, hint="write a text into it")
    return pl.DataFrame({"text": [text]}), [1]


def decoded(name: str, content: bytes) -> str:
    """UTF-8 text without its byte order mark.

    Raises:
        DataError: it is none, with the row in which that shows.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError("is UTF-16 text", file=name, hint="save it as UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"is not UTF-8 text: byte {error.start} is 0x{content[error.start]:02x}; it looks like Latin-1",
            file=name,
            row=content[: error.start].count(b"\n") + 1,
            hint="save it as UTF-8, or convert it: iconv -f latin1 -t utf-8 OLD > NEW",
        ) from error
    if "\0" in text:
        row = text[: text.index("\0")].count("\n") + 1
        raise DataError("holds a zero byte, so it is no text", file=name, row=row, hint="save it as UTF-8 text")
    return text
