"""Vocabularies: text to whole numbers and back, learned from the training part alone.

    0   the boundary: what stands before and behind a document, and where padding is
    1   the unknown unit (bytes and bpe, which can spell anything, have none)

T units, L letters kept of a word
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from clew.data import units
from clew.errors import ConfigError, DataError, RunError, did_you_mean

END, UNKNOWN, FIRST = 0, 1, 2
MOST = 10_000_000  # units that a file may claim
MISSING = "\ufffd"  # how an unknown unit is written
LETTERS, SYMBOLS = 20, 4096  # letters kept of a word, and symbols of bpe, where nothing is said
RUN = re.compile(r"\s{0,99}\S{1,100}|\s{1,100}")  # of an unbroken text bpe would else learn for minutes


class Vocabulary(ABC):
    """What the steps of a text are."""

    unit: ClassVar[str]
    unwritable: Sequence[int] = (UNKNOWN,)  # units that no text is written in

    @property
    @abstractmethod
    def size(self) -> int:
        """How many units there are, those of 0 and 1 included."""

    @property
    def width(self) -> int:
        """Numbers that stand for a unit."""
        return 1

    @abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """(T, width) int32."""

    def encode_tokens(self, tokens: Sequence[str]) -> np.ndarray:
        """The same of a text that comes cut into words."""
        return self.encode(" ".join(tokens))

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text that units stand for; boundaries are nothing."""

    def unknown(self, ids: np.ndarray) -> int:
        """How many of the units, (T, width), are not known."""
        return int((ids[:, 0] == UNKNOWN).sum()) if UNKNOWN in self.unwritable else 0

    @abstractmethod
    def to_json(self) -> dict[str, Any]: ...


class Bytes(Vocabulary):
    """The bytes of UTF-8: byte b is unit b + 1."""

    unit = "byte"
    unwritable = ()

    @property
    def size(self) -> int:
        return 257

    def encode(self, text: str) -> np.ndarray:
        raw = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
        return (raw.astype(np.int32) + 1)[:, None]

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(i - 1 for i in ids if i != END).decode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        return {"unit": self.unit}


class Known(Vocabulary):
    """Units from a list, all others unknown."""

    def __init__(self, known: Sequence[str], lowercase: bool = False) -> None:
        self.known, self.lowercase = list(known), lowercase
        self.index = {unit: i for i, unit in enumerate(self.known, FIRST)}

    @property
    def size(self) -> int:
        return len(self.known) + FIRST

    @staticmethod
    @abstractmethod
    def cut(text: str) -> Sequence[str]:
        """The units of a text."""

    def encode(self, text: str) -> np.ndarray:
        return self.encode_tokens(self.cut(text))

    def encode_tokens(self, tokens: Sequence[str]) -> np.ndarray:
        index = self.index
        if self.lowercase:
            ids = [index.get(token.lower(), UNKNOWN) for token in tokens]
        else:
            ids = [index.get(token, UNKNOWN) for token in tokens]
        return np.array(ids, dtype=np.int32).reshape(-1, 1)

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(MISSING if i == UNKNOWN else self.known[i - FIRST] for i in ids if i != END)

    def to_json(self) -> dict[str, Any]:
        return {"unit": self.unit, "known": self.known, "lowercase": self.lowercase}


class Characters(Known):
    unit = "character"

    def __init__(self, known: Sequence[str], lowercase: bool = False) -> None:
        super().__init__(known, lowercase)
        points = np.array([ord(letter) for letter in self.known], dtype=np.uint32)
        self._order = np.argsort(points)
        self._points = points[self._order]

    @staticmethod
    def cut(text: str) -> Sequence[str]:
        return text

    def encode(self, text: str) -> np.ndarray:
        """Looked up all at once: a text may have millions of letters."""
        text = text.lower() if self.lowercase else text
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        if not len(self._points):
            return np.full((len(points), 1), UNKNOWN, dtype=np.int32)
        place = np.searchsorted(self._points, points).clip(max=len(self._points) - 1)
        ids = np.where(self._points[place] == points, self._order[place] + FIRST, UNKNOWN)
        return ids.astype(np.int32)[:, None]

    def encode_tokens(self, tokens: Sequence[str]) -> np.ndarray:
        return self.encode(" ".join(tokens))


class Words(Known):
    unit = "word"

    @staticmethod
    def cut(text: str) -> Sequence[str]:
        return units.words(text)

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(MISSING if i == UNKNOWN else self.known[i - FIRST] for i in ids if i != END)


class Pieces(Known):
    """Words with the space before them, which can be put together again."""

    unit = "piece"

    @staticmethod
    def cut(text: str) -> Sequence[str]:
        return units.pieces(text)


class WordsAndLetters(Words):
    """A word's number and those of its letters, (T, 1 + L): of a longer word the first L / 2 and the last."""

    unit = "word+character"

    def __init__(
        self, known: Sequence[str], lowercase: bool = False, letters: Sequence[str] = (), longest: int = LETTERS
    ) -> None:
        super().__init__(known, lowercase)
        self.letters, self.longest = Characters(letters), longest

    @property
    def width(self) -> int:
        return 1 + self.longest

    @property
    def letters_size(self) -> int:
        return self.letters.size

    def encode_tokens(self, tokens: Sequence[str]) -> np.ndarray:
        ids = np.zeros((len(tokens), self.width), dtype=np.int32)
        ids[:, :1] = super().encode_tokens(tokens)
        spelt: dict[str, np.ndarray] = {}
        for i, token in enumerate(tokens):
            if token not in spelt:
                half = self.longest // 2
                long = len(token) > self.longest
                spelt[token] = self.letters.encode(token[:half] + token[half - self.longest :] if long else token)[:, 0]
            ids[i, 1 : 1 + len(spelt[token])] = spelt[token]
        return ids

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "letters": self.letters.known, "longest": self.longest}


class Bpe(Vocabulary):
    """Byte-level byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909), through Hugging Face's tokenizers."""

    unit = "bpe"
    unwritable = ()

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def of(cls, model: Any) -> Bpe:
        """A model of the library's, between text and bytes that any text can be spelt with."""
        library = _tokenizers()
        tokenizer = library.Tokenizer(model)
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        return cls(tokenizer)

    @classmethod
    def learn(cls, texts: Iterable[str], largest: int = SYMBOLS, min_count: int = 1) -> Bpe:
        """Merges up to `largest` symbols, never fewer than the 256 bytes, of pairs that occur `min_count` times."""
        library = _tokenizers()
        learned = cls.of(library.models.BPE())
        trainer = library.trainers.BpeTrainer(
            vocab_size=largest,
            min_frequency=min_count,
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        learned.tokenizer.train_from_iterator((run for text in texts for run in RUN.findall(_clean(text))), trainer)
        return learned

    @classmethod
    def from_json(cls, saved: str) -> Bpe:
        """Nothing but symbols and merges is taken from what was saved. Raises an Exception where it does not fit."""
        library = _tokenizers()
        model = json.loads(saved)["model"]
        symbols, merges = model["vocab"], model["merges"]
        ids = list(symbols.values())
        if len(ids) > MOST or any(type(i) is not int for i in ids) or sorted(ids) != list(range(len(ids))):
            raise ValueError("symbols are counted from 0")
        if not symbols.keys() >= set(library.pre_tokenizers.ByteLevel.alphabet()):
            raise ValueError("a byte without a symbol")
        pairs = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in merges]
        if not isinstance(merges, list) or any(
            len(pair) != 2 or not symbols.keys() >= {*pair, "".join(pair)} for pair in pairs
        ):
            raise ValueError("a merge is of two symbols to a third")
        return cls.of(library.models.BPE(symbols, pairs))

    @property
    def size(self) -> int:
        return self.tokenizer.get_vocab_size() + 1

    def encode(self, text: str) -> np.ndarray:
        return np.array(self.tokenizer.encode(_clean(text)).ids, dtype=np.int32).reshape(-1, 1) + 1

    def decode(self, ids: Iterable[int]) -> str:
        return self.tokenizer.decode([i - 1 for i in ids if i != END], skip_special_tokens=False)

    def to_json(self) -> dict[str, Any]:
        return {"unit": self.unit, "tokenizer": self.tokenizer.to_str()}


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


def _clean(text: str) -> str:
    """Half a surrogate pair is no letter."""
    return text.encode("utf-8", "replace").decode()


def _tokenizers() -> Any:
    try:
        import tokenizers
        from tokenizers import decoders, models, pre_tokenizers, trainers  # noqa: F401
    except ImportError as error:
        hint = "pip install 'clew[text]', or data.source_unit = piece"
        raise ConfigError("bpe needs the library tokenizers", hint=hint) from error
    return tokenizers
