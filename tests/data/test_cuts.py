"""What a text is cut into, and back."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.data.vocabulary.cuts import pieces, words

ANY = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
SPACED = st.text(st.sampled_from("ab'\u2019é, .\n\t\r\u00a0\u2028\x1c_-1"), max_size=60)


@given(ANY | SPACED)
@settings(deadline=None)
def test_pieces_are_the_text(text: str):
    found = pieces(text)
    assert "".join(found) == text
    assert all(found)


@given(ANY | SPACED)
@settings(deadline=None)
def test_words_are_the_text_without_blanks(text: str):
    assert "".join(words(text)) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't stop, Ann\u2019s here.", ["Don't", "stop", ",", "Ann\u2019s", "here", "."]),
        ("'quoted' rock-n-roll", ["'", "quoted", "'", "rock", "-", "n", "-", "roll"]),
        ("3.14 naïve\t日本", ["3", ".", "14", "naïve", "日本"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("cafe\u0301 \u0645\u06cc\u200c\u062e", ["cafe\u0301", "\u0645\u06cc\u200c\u062e"]),
        (" \n ", []),
    ],
)
def test_words(text: str, expected: list[str]):
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat, she said...", ["The", " cat", ",", " she", " said", "..."]),
        ("a  b", ["a", " ", " b"]),
        ("a\n\n\nb", ["a", "\n\n", "\n", "b"]),
        ("end  ", ["end", "  "]),
    ],
)
def test_a_space_belongs_to_the_word_behind_it(text: str, expected: list[str]):
    assert pieces(text) == expected


@pytest.mark.parametrize("text", ["a" * 10**6, " " * 10**6 + "a", "a'" * 500_000, ". " * 500_000, "'" * 10**6])
@pytest.mark.parametrize("cut", [words, pieces])
def test_no_text_takes_long(cut, text: str):
    began = time.perf_counter()
    cut(text)
    assert time.perf_counter() - began < 5  # seconds; what grows with the square takes hours
