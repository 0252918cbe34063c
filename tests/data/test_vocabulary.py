"""Text to numbers and back: what is known, what is not, and that nothing is lost on the way."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clew.data import vocabulary
from clew.data.vocabulary import END, UNITS, UNKNOWN, Characters, Vocabulary, WordsAndLetters, fit, from_json
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


WILD = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)  # half surrogate pairs too


@pytest.fixture(scope="module")
def fitted() -> dict[str, Vocabulary]:
    return {unit: fit(unit, TEXTS) for unit in UNITS}


@pytest.mark.parametrize("unit", UNITS)
@given(text=WILD)
@settings(deadline=None, max_examples=40)
def test_every_text_has_units_in_range(fitted, unit: str, text: str):
    known = fitted[unit]
    ids = known.encode(text)
    assert ids.dtype == np.int32
    assert ids.shape == (len(ids), known.width)
    assert ids.size == 0 or (ids[:, 0].min() > END and ids[:, 0].max() < known.size)
    assert 0 <= known.unknown(ids) <= len(ids)
    assert isinstance(known.decode(ids[:, 0].tolist()), str)


@pytest.mark.parametrize("unit", ["character", "piece"])
@given(text=WILD)
@settings(deadline=None, max_examples=100)
def test_characters_and_pieces_write_known_text(unit: str, text: str):
    if text:
        known = fit(unit, [text])
        assert known.decode(known.encode(text)[:, 0]) == text


@pytest.mark.parametrize("unit", UNITS)
def test_fitting_is_deterministic_and_reads_texts_once(fitted, unit: str):
    assert fit(unit, (text for text in TEXTS)).to_json() == fitted[unit].to_json()
    if unit not in ("byte", "bpe"):
        assert fit(unit, TEXTS[::-1]).to_json() == fitted[unit].to_json()


@pytest.mark.parametrize("unit", UNITS)
def test_half_a_surrogate_pair_is_no_crash(unit: str):
    known = fit(unit, ["a\ud800b a"])
    assert known.encode("a\ud800b").shape[1] == known.width
    from_json(json.loads(json.dumps(known.to_json())), "plan.json")


def test_bytes_by_hand(fitted):
    assert fitted["byte"].encode("aé")[:, 0].tolist() == [98, 196, 170]
    assert fitted["byte"].size == 257


def test_the_commonest_first_then_by_alphabet():
    known = fit("word", ["b a c b", "d a b"])
    assert known.to_json()["known"] == ["b", "a", "c", "d"]
    assert known.encode("b a x d")[:, 0].tolist() == [2, 3, UNKNOWN, 5]
    assert known.unknown(known.encode("b a x d")) == 1
    assert known.decode([2, UNKNOWN, END, 5]) == "b \ufffd d"
    assert fit("word", ["b a c b", "d a b"], largest=3).to_json()["known"] == ["b", "a", "c"]
    assert fit("word", ["b a c b", "d a b"], min_count=2).to_json()["known"] == ["b", "a"]


@pytest.mark.parametrize("unit", ["word", "piece", "character", "word+character"])
@pytest.mark.parametrize("text", ["The END", "İstanbul", "ΟΔΟΣ Σ", "STRASSE ẞ"])
def test_lower_case_knows_its_own_text(unit: str, text: str):
    """Lower case may be longer (İ), and depend on what stands beside it (Σ)."""
    known = fit(unit, [text], lowercase=True)
    assert known.unknown(known.encode(text)) == 0
    if unit == "character":
        assert known.unknown(known.encode(text.lower())) == 0


def test_an_unknown_piece_is_written_as_such():
    known = fit("piece", ["the cat"])
    assert known.decode(known.encode("the dog cat")[:, 0]) == "the\ufffd cat"


@pytest.mark.parametrize("most", [1, 2, 3, 20])
@given(word=st.text("abc", min_size=1, max_size=30))
@settings(deadline=None, max_examples=30)
def test_letters_are_the_first_and_the_last(most: int, word: str):
    known = fit("word+character", ["abc"], letters=most)
    kept = word if len(word) <= most else word[: most // 2] + word[len(word) - (most - most // 2) :]
    expected = ["abc".index(letter) + 2 for letter in kept]
    assert known.encode(word)[0, 1:].tolist() == expected + [0] * (most - len(expected))


@pytest.mark.parametrize("unit", ["word", "word+character"])
def test_words_that_come_cut_keep_their_places(unit: str):
    tokens = ["U.N.", "official", "", "Rolf-Dieter", "U.N."]
    known = fit(unit, [tokens])
    ids = known.encode_tokens(tokens)
    assert ids.shape == (5, known.width)
    assert known.unknown(ids) == 0
    np.testing.assert_array_equal(ids[0], ids[4])
    assert known.encode_tokens([]).shape == (0, known.width)


@pytest.mark.parametrize("unit", UNITS)
def test_nothing_to_learn_from(unit: str):
    for texts in ([], [""], [[]]):
        with pytest.raises(DataError, match="no text"):
            fit(unit, texts)


def test_nothing_common_enough():
    with pytest.raises(DataError, match=r"data\.min_count"):
        fit("word", ["each once"], min_count=2)


def test_bpe_without_its_library(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"pip install 'clew\[text\]'"):
        fit("bpe", TEXTS)


def test_bpe_merges_what_is_common():
    known = fit("bpe", ["banana banana"] * 9, largest=260)
    assert known.size == 261  # and the boundary
    assert len(known.encode("banana")) < 6
    assert fit("bpe", ["ab"], min_count=2).size == 257


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


STRINGS = st.lists(st.text(max_size=2), max_size=3)


SAVED = st.fixed_dictionaries(
    {"unit": st.sampled_from([*UNITS, "other"]) | JSON},
    optional={
        "known": STRINGS | JSON,
        "lowercase": st.booleans() | JSON,
        "letters": STRINGS | JSON,
        "longest": st.integers(-1, 2000) | JSON,
        "tokenizer": JSON | JSON.map(lambda value: json.dumps({"model": value})),
    },
)


def usable_or_refused(saved: Any) -> None:
    try:
        known = from_json(saved, "plan.json")
    except RunError as error:
        refused = error
    else:
        ids = known.encode("a b")
        assert ids.shape == (len(ids), known.width)
        assert ids[:, 0].max() < known.size
        return
    assert (refused.file, refused.hint) == ("plan.json", "train it again")


@given(JSON | SAVED)
@settings(deadline=None, max_examples=200)
def test_any_json_is_a_vocabulary_or_refused(saved):
    usable_or_refused(saved)


@given(st.data())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_bpe_is_refused_or_usable(fitted, data):
    saved = json.loads(fitted["bpe"].to_json()["tokenizer"])
    model = saved["model"]
    symbols = list(model["vocab"])
    match data.draw(st.sampled_from(["vocab", "number", "gone", "merges", "merge", "top", "model"])):
        case "vocab" | "merges" as part:
            model[part] = data.draw(JSON)
        case "number":
            model["vocab"][data.draw(st.sampled_from(symbols))] = data.draw(st.integers() | JSON)
        case "gone":
            del model["vocab"][data.draw(st.sampled_from(symbols))]
        case "merge":
            pair = st.lists(st.sampled_from(symbols), max_size=3) | JSON
            model["merges"].insert(data.draw(st.integers(0, 3)), data.draw(pair))
        case "top":
            saved[data.draw(st.sampled_from(list(saved)))] = data.draw(JSON)
        case _:
            model[data.draw(st.sampled_from(list(model)))] = data.draw(JSON)
    usable_or_refused({"unit": "bpe", "tokenizer": json.dumps(saved)})


@pytest.mark.parametrize(
    "saved",
    [
        {"unit": "word", "known": "abc", "lowercase": False},
        {"unit": "word", "known": ["a", "a"], "lowercase": False},
        {"unit": "word", "known": ["a"], "lowercase": "no"},
        {"unit": "character", "known": ["ab"], "lowercase": False},
        {"unit": "word+character", "known": ["a"], "lowercase": False, "letters": ["a"], "longest": 10**9},
        {"unit": "bpe", "tokenizer": "[" * 100_000},
        {"unit": "bpe", "tokenizer": '{"model": {"vocab": {}, "merges": []}}'},
    ],
)
def test_damage_that_is_refused(saved):
    with pytest.raises(RunError, match="train it again"):
        from_json(saved, "plan.json")


def test_a_list_that_claims_too_much(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vocabulary, "MOST", 2)
    with pytest.raises(RunError, match="no vocabulary"):
        from_json({"unit": "word", "known": ["a", "b", "c"], "lowercase": False}, "plan.json")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("text", ["ab" * 100_000, " " * 200_000 + "a", "it's 5 o'clock. " * 12_500])
def test_no_text_takes_long(unit: str, text: str):
    began = time.perf_counter()
    known = fit(unit, [text])
    known.encode(text)
    assert time.perf_counter() - began < 8  # seconds; what grows with the square takes minutes
