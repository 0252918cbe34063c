"""How near written texts come to what should have been written: BLEU and chrF as sacrebleu has them, edits, matches."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from itertools import zip_longest
from typing import Any

from clew.errors import ConfigError, did_you_mean
from clew.metrics.edits import Edits

TOKENIZERS = ("13a", "char", "intl", "none", "zh")  # sacrebleu's that need nothing but itself


class Sequences:
    """Accumulates N texts at a time, each with one or more references.

    bleu           of the corpus, 0 to 100 (Papineni et al. 2002, as Post 2018, arXiv:1804.08771, makes it comparable)
    chrf           of the corpus, 0 to 100 (chrF2: Popović 2015, doi:10.18653/v1/W15-3049)
    token_error    edits / tokens of the references (see `Edits`)
    exact          the share of texts whose tokens are those of a reference

    Args:
        cut: a text to the tokens of the last two; blanks part words where nothing is said. `list` for characters.
        tokenize: sacrebleu's name for what BLEU counts: "13a", "intl", "zh", "char" or "none".

    Raises:
        ConfigError: sacrebleu is not installed, or has no such tokenizer.
    """

    def __init__(self, cut: Callable[[str], Sequence[Hashable]] = str.split, tokenize: str = TOKENIZERS[0]) -> None:
        if tokenize not in TOKENIZERS:
            raise ConfigError(f"unknown tokenizer of BLEU '{tokenize}'", hint=did_you_mean(tokenize, TOKENIZERS))
        library = _sacrebleu()
        # `force` only spares a warning about texts that come cut into words.
        self._metrics = {"bleu": library.BLEU(tokenize=tokenize, force=True), "chrf": library.CHRF()}
        self._cut, self._edits = cut, Edits()
        self._predictions: list[str] = []
        self._references: list[Sequence[str]] = []
        self._scores: dict[str, float] = {}  # of all that was added; empty where that is still to be computed

    def update(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Add N texts, and of each its references; either may be empty texts."""
        assert not any(isinstance(known, str) for known in references), "the references of a text are a list"
        cut = self._cut
        self._edits.update([cut(text) for text in predictions], [[cut(text) for text in known] for known in references])
        self._predictions.extend(predictions)
        self._references.extend(references)
        self._scores.clear()

    def result(self) -> dict[str, float]:
        """bleu, chrf, token_error, exact; NaN when nothing was added."""
        return {**self._scored(), **self._edits.result()}

    @property
    def signatures(self) -> dict[str, str]:
        """What sacrebleu says of how bleu and chrf were computed, to be kept beside them; empty when nothing was
        added."""
        if not self._predictions:
            return {}
        self._scored()  # the references are counted on the way
        return {name: str(metric.get_signature()) for name, metric in self._metrics.items()}

    def _scored(self) -> dict[str, float]:
        if not self._predictions:
            return dict.fromkeys(self._metrics, math.nan)
        if not self._scores:
            # The library wants the first references of all texts, then the second ones, with None where there is none.
            by_number = [list(column) for column in zip_longest(*self._references)]
            for name, metric in self._metrics.items():
                self._scores[name] = float(metric.corpus_score(self._predictions, by_number).score)
        return self._scores


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        hint = "pip install 'clew[text]'; clew.metrics.Edits counts edits and matches without it"
        raise ConfigError("BLEU and chrF need the library sacrebleu", hint=hint) from error
    return metrics
