"""What the steps of a text are: whole numbers, and back.

T units
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

END, UNKNOWN, FIRST = 0, 1, 2
MOST = 10_000_000  # units that a file may claim


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
    def decode(self, ids: Iterable[int], beyond: Sequence[str] = ()) -> str:
        """The text that units stand for; boundaries are nothing, and those from `size` on are `beyond`."""

    def read(self, text: str) -> tuple[np.ndarray, list[str]]:
        """A text (T,), and its units that are not known: none where everything can be spelt."""
        return self.encode(text)[:, 0].astype(np.int64), []

    def write(self, text: str, words: Sequence[str]) -> np.ndarray:
        """A text (T,) in the units that `read` gave another."""
        return self.encode(text)[:, 0].astype(np.int64)

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

    def decode(self, ids: Iterable[int], beyond: Sequence[str] = ()) -> str:
        return bytes(i - 1 for i in ids if i != END).decode("utf-8", "replace")

    def to_json(self) -> dict[str, Any]:
        return {"unit": self.unit}
