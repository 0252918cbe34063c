"""Units from a list that the training part gave: characters, words, pieces, words with their letters.

T units, L letters kept of a word
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from clew.data.vocabulary import cuts
from clew.data.vocabulary.base import END, FIRST, UNKNOWN, Vocabulary

MISSING = "\ufffd"  # how an unknown unit is written
LETTERS = 20  # letters kept of a word, where nothing is said


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

    def decode(self, ids: Iterable[int], beyond: Sequence[str] = ()) -> str:
        return "".join(self.named(ids, beyond))

    def named(self, ids: Iterable[int], beyond: Sequence[str] = ()) -> list[str]:
        """Each unit's own text; those from `size` on are `beyond`."""
        known = (*self.known, *beyond) if beyond else self.known
        return [MISSING if i == UNKNOWN else known[i - FIRST] for i in ids if i != END]

    def units_of(self, text: str) -> Sequence[str]:
        """The units of a text as they are looked up."""
        text = text.lower() if self.lowercase else text
        return self.cut(text)

    def read(self, text: str) -> tuple[np.ndarray, list[str]]:
        """A text (T,) in which units that are not known have numbers of their own, from `size` on, and these units."""
        words: dict[str, int] = {}
        units = self.units_of(text)
        ids = [self.index[u] if u in self.index else words.setdefault(u, self.size + len(words)) for u in units]
        return np.array(ids, dtype=np.int64), list(words)

    def write(self, text: str, words: Sequence[str]) -> np.ndarray:
        """A text (T,) where those units have the numbers that `read` gave them."""
        beyond = {word: i for i, word in enumerate(words, self.size)}
        ids = [self.index.get(u, beyond.get(u, UNKNOWN)) for u in self.units_of(text)]
        return np.array(ids, dtype=np.int64)

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
        return cuts.words(text)

    def decode(self, ids: Iterable[int], beyond: Sequence[str] = ()) -> str:
        return " ".join(self.named(ids, beyond))


class Pieces(Known):
    """Words with the space before them, which can be put together again."""

    unit = "piece"

    @staticmethod
    def cut(text: str) -> Sequence[str]:
        return cuts.pieces(text)


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
