"""How many steps have the right tag, and how many entities are found, where the tags say where those begin and end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Span = tuple[str, int, int]  # its type, and its steps from the first to behind the last


class Tags:
    """Accumulates a sequence at a time.

    accuracy                 the share of steps with the right tag
    precision, recall, f1    of entities, type and both ends right, where the tags are BIO (CoNLL-2000's evaluation)
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.bio = list(names), is_bio(names)
        self._steps = self._right = self._found = self._true = self._both = 0

    def update(self, truth: Sequence[int], predicted: Sequence[int]) -> None:
        """Add the tags of one sequence, as numbers of names."""
        self._steps += len(truth)
        self._right += sum(a == b for a, b in zip(truth, predicted, strict=True))
        if self.bio:
            true, found = (set(spans([self.names[i] for i in tags])) for tags in (truth, predicted))
            self._true, self._found = self._true + len(true), self._found + len(found)
            self._both += len(true & found)

    def result(self) -> dict[str, float]:
        """accuracy, and f1, precision, recall of BIO tags (0 where there is no entity); NaN when nothing was added."""
        if self._steps == 0:
            return dict.fromkeys(("accuracy", "f1", "precision", "recall") if self.bio else ("accuracy",), math.nan)
        accuracy = {"accuracy": self._right / self._steps}
        if not self.bio:
            return accuracy
        precision, recall = self._both / max(1, self._found), self._both / max(1, self._true)
        f1 = 2 * self._both / max(1, self._found + self._true)
        return {**accuracy, "f1": f1, "precision": precision, "recall": recall}


def is_bio(names: Iterable[str]) -> bool:
    """Whether the tags are O, B-x and I-x, with at least one B- or I-."""
    names = set(names)
    inside = [name for name in names if name[:2] in ("B-", "I-") and len(name) > 2]
    return bool(inside) and names - {"O"} == set(inside)


def spans(tags: Sequence[str]) -> list[Span]:
    """Entities of BIO tags. An I-x behind anything but B-x or I-x begins one, as CoNLL's evaluation has it."""
    found: list[Span] = []
    kind, first = "", 0
    for t, tag in enumerate([*tags, "O"]):
        goes_on = tag.startswith("I-") and tag[2:] == kind
        if kind and not goes_on:
            found.append((kind, first, t))
            kind = ""
        if tag != "O" and not goes_on:
            kind, first = tag[2:], t
    return found
