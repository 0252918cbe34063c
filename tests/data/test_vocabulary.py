"""Text to numbers and back: what is known, what is not, and that nothing is lost on the way."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.data import units
from clew.data.vocabulary import END, UNITS, UNKNOWN, Characters, WordsAndLetters, fit, from_json
from clew.errors import ConfigError, DataError, RunError

TEXTS = ["The cat sat.", "the dog — a good dog — sat on the cat's mat", "ein schöner Film 映画"]
WRITABLE = ["byte", "character", "piece", "bpe"]


def learned(unit: str, **options):
    if unit == "bpe":
        pytest.importorskip("tokenizers", reason="bpe needs tokenizers, of the extra text")
    return fit(unit, TEXTS, **options)


@pytest.mark.parametrize("unit", UNITS)
def test_what_was_learned_comes_back(unit: str) -> None:
    known = learned(unit)
    again = from_json(json.loads(json.dumps(known.to_json())), "plan.json")
    for text in [*TEXTS, "unseen ☃ words", ""]:
        ids = known.encode(text)
        assert ids.shape[1] == known.width
        assert ids.dtype == np.int32
        assert ids.size == 0 or (ids[:, 0].min() > END and ids[:, 0].max() < known.size)
        np.testing.assert_array_equal(ids, again.encode(text))


@pytest.mark.parametrize("unit", WRITABLE)
@settings(deadline=None, max_examples=60)
@given(st.data())
def test_known_text_is_written_as_it_was(unit: str, data) -> None:
    known = learned(unit)
    text = data.draw(st.text() if unit in ("byte", "bpe") else st.sampled_from(TEXTS))
    if unit in ("byte", "bpe"):
        text = text.encode("utf-8", "ignore").decode()
    assert known.decode(known.encode(text)[:, 0].tolist()) == text


@settings(deadline=None)
@given(st.text())
def test_pieces_make_the_text(text: str) -> None:
    assert "".join(units.pieces(text)) == text


@settings(deadline=None)
@given(st.text())
def test_words_leave_out_blanks_alone(text: str) -> None:
    assert "".join(units.words(text)) == "".join(text.split()) or any(ch.isspace() != (not ch.split()) for ch in text)


def test_words() -> None:
    assert units.words("It isn't 3.5, or is it?") == ["It", "isn't", "3", ".", "5", ",", "or", "is", "it", "?"]


def test_the_commonest_come_first_and_rare_ones_are_unknown() -> None:
    known = fit("word", ["b b b a a c"], min_count=2)
    assert known.encode("b a c z")[:, 0].tolist() == [2, 3, UNKNOWN, UNKNOWN]
    assert fit("word", ["b b b a a c"], largest=1).encode("b a")[:, 0].tolist() == [2, UNKNOWN]
    assert fit("word", ["Cat cat"], lowercase=True).encode("CAT")[0, 0] == 2


def test_letters_of_words() -> None:
    known = fit("word+character", [["aab", "c"]], letters=4)
    assert isinstance(known, WordsAndLetters)
    a, b, c = (known.letters.encode(letter)[0, 0] for letter in "abc")
    assert known.encode_tokens(["aab", "c", "abcbca"])[:, 1:].tolist() == [[a, a, b, 0], [c, 0, 0, 0], [a, b, c, a]]
    assert known.encode_tokens(["abcbca", "zz"])[:, 0].tolist() == [UNKNOWN, UNKNOWN]
    assert known.encode_tokens(["z"])[0, 1] == UNKNOWN


KEYS = st.sampled_from(["unit", "known", "lowercase", "letters", "longest", "tokenizer"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner),
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(UNITS)), ANYTHING)
def test_a_damaged_vocabulary_is_refused_or_whole(unit: str, saved) -> None:
    if isinstance(saved, dict):
        saved = {**saved, "unit": unit}
    try:
        known = from_json(saved, "plan.json")
    except (RunError, ConfigError):
        return
    assert known.encode("a b").shape[1] == known.width


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="did you mean 'word'"):
        fit("words", TEXTS)
    with pytest.raises(DataError, match="holds no text"):
        fit("word", [" "])


@pytest.mark.parametrize(("unit", "seconds"), [("character", 0.5), ("byte", 0.5), ("word", 3.0), ("piece", 3.0)])
@pytest.mark.parametrize("text", ["a good film " * 83_334, "x" * 1_000_000])
def test_a_million_letters_are_encoded_at_once(unit: str, seconds: float, text: str) -> None:
    """Bounds that only what is not linear would miss."""
    known = fit(unit, [text[:1000]])
    began = time.perf_counter()
    known.encode(text)
    assert time.perf_counter() - began < 4 * seconds


def test_characters_beyond_the_basic_plane() -> None:
    known = Characters(["a", "\U0001f600"])
    assert known.encode("a\U0001f600b")[:, 0].tolist() == [2, 3, UNKNOWN]
