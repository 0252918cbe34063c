"""Byte-pair encoding, which learns the units from the text and can spell any other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from clew.data.vocabulary.base import END, MOST, Vocabulary
from clew.errors import ConfigError

SYMBOLS = 4096  # where nothing is said
RUN = re.compile(r"\s{0,99}\S{1,100}|\s{1,100}")  # of an unbroken text bpe would else learn for minutes


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

    def decode(self, ids: Iterable[int], beyond: Sequence[str] = ()) -> str:
        return self.tokenizer.decode([i - 1 for i in ids if i != END], skip_special_tokens=False)

    def to_json(self) -> dict[str, Any]:
        return {"unit": self.unit, "tokenizer": self.tokenizer.to_str()}


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
