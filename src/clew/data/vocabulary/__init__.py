"""Vocabularies: text to whole numbers and back, learned from the training part alone.

0   the boundary: what stands before and behind a document, and where padding is
1   the unknown unit (bytes and bpe, which can spell anything, have none)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from clew.data.vocabulary.base import END, MOST, UNKNOWN, Bytes, Vocabulary
from clew.data.vocabulary.bpe import SYMBOLS, Bpe
from clew.data.vocabulary.known import LETTERS, Characters, Known, Pieces, Words, WordsAndLetters
from clew.errors import ConfigError, DataError, RunError, did_you_mean

__all__ = [
    "END",
    "UNITS",
    "UNKNOWN",
    "Bpe",
    "Bytes",
    "Characters",
    "Pieces",
    "Vocabulary",
    "Words",
    "WordsAndLetters",
    "fit",
    "from_json",
]

UNITS: dict[str, type[Vocabulary]] = {
    kind.unit: kind for kind in (Bytes, Characters, Words, WordsAndLetters, Pieces, Bpe)
}


def fit(
    unit: str,
    texts: Iterable[str] | Iterable[Sequence[str]],
    *,
    lowercase: bool = False,
    min_count: int = 1,
    largest: int = 0,
    letters: int = LETTERS,
) -> Vocabulary:
    """Learn the units of texts, or of lists of words: the commonest first, equal ones in alphabetical order.

    Args:
        unit: a name of `UNITS`.
        lowercase: look units up in lower case (letters of word+character, bytes and bpe stay as they are).
        min_count: how often a unit must occur to be known.
        largest: the most units that are known; 0 = all of them (bpe: 4,096).
        letters: how many of a word's are kept (word+character).

    Raises:
        ConfigError: an unknown unit, or bpe without the library that it needs.
        DataError: there is nothing in the texts, or nothing that occurs often enough.
    """
    if unit not in UNITS:
        raise ConfigError(f"unknown unit '{unit}'", hint=did_you_mean(unit, UNITS))
    kind = UNITS[unit]
    if not issubclass(kind, Known):
        whole = [text if isinstance(text, str) else " ".join(text) for text in texts]
        if not any(whole):
            raise DataError("the training part holds no text", hint="choose another --input")
        return Bpe.learn(whole, largest or SYMBOLS, min_count) if kind is Bpe else Bytes()
    counts: Counter[str] = Counter()
    seen: set[str] = set()
    for text in texts:
        if kind is Characters:  # a letter in lower case may be two, and depend on those beside it
            text = text if isinstance(text, str) else " ".join(text)
            counts.update(text.lower() if lowercase else text)
            continue
        tokens = kind.cut(text) if isinstance(text, str) else text
        counts.update(token.lower() for token in tokens) if lowercase else counts.update(tokens)
        seen.update("".join(tokens))
    if not counts:
        raise DataError("the training part holds no text", hint="choose another --input")
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    known = [token for token in ranked if counts[token] >= min_count][: largest or None]
    if not known:
        raise DataError(f"no {unit} occurs {min_count} times in the training part", hint="lower data.min_count")
    if kind is WordsAndLetters:
        return WordsAndLetters(known, lowercase, sorted(seen), letters)
    return kind(known, lowercase)


def from_json(saved: Any, file: object) -> Vocabulary:
    """The vocabulary that `to_json` wrote.

    Raises:
        RunError: the object holds none.
    """
    try:
        kind = UNITS[saved["unit"]]
        if kind is Bytes:
            return Bytes()
        if kind is Bpe:
            return Bpe.from_json(saved["tokenizer"])
        assert issubclass(kind, Known)
        known, lowercase = _strings(saved["known"]), saved["lowercase"]
        if type(lowercase) is not bool:
            raise ValueError("lowercase is true or false")
        if kind is WordsAndLetters:
            longest = saved["longest"]
            if type(longest) is not int or not 1 <= longest <= 1000:
                raise ValueError("letters kept of a word: 1 to 1,000")
            return WordsAndLetters(known, lowercase, _letters(saved["letters"]), longest)
        return kind(_letters(known) if kind is Characters else known, lowercase)
    except ConfigError:
        raise
    except Exception as error:  # the library's own errors have no other kind
        what = f"holds no vocabulary: {type(error).__name__}"
        raise RunError(what, file=file, hint="train it again") from error


def _strings(values: Any) -> list[str]:
    if not isinstance(values, list) or len(values) > MOST or not all(isinstance(value, str) for value in values):
        raise ValueError("units are a list of texts")
    if len(set(values)) != len(values):
        raise ValueError("a unit stands twice")
    return values


def _letters(values: Any) -> list[str]:
    letters = _strings(values)
    if any(len(letter) != 1 for letter in letters):
        raise ValueError("a letter is one character")
    return letters
