"""What a text is cut into: words for those that classify, pieces for those that write, as they can be put together."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

JOINERS = "\u200c\u200d"  # stand inside words of Persian and of India's scripts
MARKS = range(0x300, 0x1F000)  # where the marks are that a letter may carry


def words(text: str) -> list[str]:
    """Runs of letters and digits (an apostrophe may stand inside), and every other mark by itself; blanks part them."""
    return _patterns()[0].findall(text)


def pieces(text: str) -> list[str]:
    """Words and runs of marks, each with the space before it: `"".join(pieces(text)) == text` for every text."""
    return _patterns()[1].findall(text)


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Of words and of pieces. Python's own letters lack the marks that vowels are written with in many scripts."""
    marks = "".join(chr(point) for point in MARKS if unicodedata.category(chr(point))[0] == "M") + JOINERS
    run = rf"\w+(?:[{marks}]+\w*)*"
    return re.compile(rf"{run}(?:['\u2019]{run})*|[^\w\s]"), re.compile(rf" ?{run}| ?[^\w\s]+|\s+(?!\S)|\s")
