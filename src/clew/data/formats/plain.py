"""Plain text, and how every text file is decoded."""

from __future__ import annotations

import codecs

import polars as pl

from clew.errors import DataError

BLOCK = 1 << 20  # bytes that are decoded at once; a whole file as one str may take four times its size


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
    """UTF-8 text without its byte order mark. Raises as `checked`."""
    return checked(name, content).decode()


def checked(name: str, content: bytes) -> bytes:
    """The bytes of UTF-8 text, without its byte order mark.

    Raises:
        DataError: they are none, with the row in which that shows.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError("is UTF-16 text", file=name, hint="save it as UTF-8")
    content = content.removeprefix(codecs.BOM_UTF8)
    if not content.isascii() and (bad := _not_utf8(content)) is not None:
        raise DataError(
            f"is not UTF-8 text: byte {bad} is 0x{content[bad]:02x}; it looks like Latin-1",
            file=name,
            row=content[:bad].count(b"\n") + 1,
            hint="save it as UTF-8, or convert it: iconv -f latin1 -t utf-8 OLD > NEW",
        )
    if (zero := content.find(0)) >= 0:
        row = content[:zero].count(b"\n") + 1
        raise DataError("holds a zero byte, so it is no text", file=name, row=row, hint="save it as UTF-8 text")
    return content


def _not_utf8(content: bytes) -> int | None:
    """Where the first byte stands that is no UTF-8."""
    start = 0
    while start < len(content):
        block = memoryview(content)[start : start + BLOCK]
        try:
            start += codecs.utf_8_decode(block, "strict", start + BLOCK >= len(content))[1]
        except UnicodeDecodeError as error:
            return start + error.start
    return None
