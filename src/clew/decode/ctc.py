"""From the log-probabilities of units and blank at each step to texts: see `models.unaligned`.

best_path       the likeliest unit of each step; equal neighbours are one, blanks are dropped
prefix_beam     the likeliest texts, each over all its paths (Graves 2008, "Supervised sequence labelling", section
                7.5.3; with a language model Hannun et al. 2014, arXiv:1408.2873)

score(text) = log p(text | x) + weight log p(text) + bonus |text|

V units, of which the blank is one, M steps, W prefixes
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

NEVER = -np.inf


class LanguageModel(Protocol):
    """What is likely to follow, in the units of the search, blank included."""

    def begin(self) -> tuple[np.ndarray, Any]:
        """Log-probabilities (V,) of the first unit, and what `after` needs."""
        ...

    def after(self, units: Sequence[int], memories: Sequence[Any]) -> list[tuple[np.ndarray, Any]]:
        """The same behind one more unit each, for several at once."""
        ...

    def end(self, following: np.ndarray) -> float:
        """The log-probability that a text ends where `following` would follow."""
        ...


class Spoken(NamedTuple):
    units: list[int]
    score: float
    logp: float  # of the units given the input, over the paths that were kept


class _Prefix:
    """What is known of a text that may go on."""

    __slots__ = ("blank", "following", "language", "memory", "unit")

    def __init__(self, language: float, following: np.ndarray | None, memory: Any) -> None:
        self.blank = self.unit = NEVER  # log-probability of the paths that end with a blank, with its last unit
        self.language, self.following, self.memory = language, following, memory

    @property
    def logp(self) -> float:
        return float(np.logaddexp(self.blank, self.unit))


def best_path(logp_MV: np.ndarray, blank: int, last: int | None = None) -> list[int]:
    """The units of the likeliest path.

    Args:
        last: the unit or blank of the step before the first: a stream goes on with what it said last.
    """
    path = logp_MV.argmax(-1).tolist()
    before = [blank if last is None else last, *path]
    return [unit for was, unit in zip(before, path, strict=False) if unit not in (was, blank)]


def prefix_beam(
    logp_MV: np.ndarray | Tensor,
    blank: int,
    *,
    width: int = 16,
    language: LanguageModel | None = None,
    weight: float = 0.5,
    bonus: float = 0.0,
    least: float = -12.0,
) -> list[Spoken]:
    """The best texts, the best first; at most `width`.

    Args:
        width: W, prefixes that are kept after each step.
        weight: of the language model.
        bonus: for each unit, against a language model's liking for short texts.
        least: units less likely than this at a step (log-probability) do not begin anything there.
    """
    steps = np.asarray(logp_MV, dtype=np.float64)
    root = _Prefix(0.0, *(language.begin() if language else (None, None)))
    root.blank = 0.0
    kept: dict[tuple[int, ...], _Prefix] = {(): root}
    for logp_V in steps:
        likely = [int(unit) for unit in np.flatnonzero(logp_V > least) if unit != blank]
        found: dict[tuple[int, ...], _Prefix] = {}
        for text, prefix in kept.items():
            same = found.setdefault(text, _Prefix(prefix.language, prefix.following, prefix.memory))
            same.blank = np.logaddexp(same.blank, prefix.logp + logp_V[blank])
            if text:
                same.unit = np.logaddexp(same.unit, prefix.unit + logp_V[text[-1]])
            for unit in likely:
                # Behind the same unit a new one needs a blank between them.
                before = prefix.blank if text and text[-1] == unit else prefix.logp
                if before == NEVER:
                    continue
                longer = (*text, unit)
                if longer not in found:
                    known = kept.get(longer)
                    said = 0.0 if prefix.following is None else float(prefix.following[unit])
                    found[longer] = _Prefix(
                        prefix.language + said, known and known.following, known.memory if known else None
                    )
                found[longer].unit = np.logaddexp(found[longer].unit, before + logp_V[unit])
        ranked = sorted(found, key=lambda text: -_score(text, found[text], weight, bonus))[:width]
        if language:
            new = [text for text in ranked if found[text].following is None]
            parents = [kept[text[:-1]].memory for text in new]
            for text, told in zip(new, language.after([text[-1] for text in new], parents), strict=True):
                found[text].following, found[text].memory = told
        kept = {text: found[text] for text in ranked}
    for prefix in kept.values():
        if language and prefix.following is not None:
            prefix.language += language.end(prefix.following)
    spoken = [Spoken(list(text), _score(text, prefix, weight, bonus), prefix.logp) for text, prefix in kept.items()]
    return sorted(spoken, key=lambda one: -one.score)


def _score(text: tuple[int, ...], prefix: _Prefix, weight: float, bonus: float) -> float:
    return prefix.logp + weight * prefix.language + bonus * len(text)
