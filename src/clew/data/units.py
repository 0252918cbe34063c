"""What a text is cut into: words for those that classify, pieces for those that write, as they can be put together."""

from __future__ import annotations

import re

WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")
PIECE = re.compile(r" ?\w+| ?[^\w\s]+|\s+(?!\S)|\s")


def words(text: str) -> list[str]:
    """Runs of letters and digits (an apostrophe may stand inside), and every other mark by itself; blanks part them."""
    return WORD.findall(text)


def pieces(text: str) -> list[str]:
    """Words and runs of marks, each with the space before it: `"".join(pieces(text)) == text` for every text."""
    return PIECE.findall(text)
