"""What models with an encoder and a decoder share, whatever their sources are: how texts are found and foreseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clew.config import Decode
from clew.data.pair_batch import PairBatch, PairExample, collate_pairs
from clew.data.vocabulary import END, Vocabulary, Words
from clew.data.vocabulary.known import Known
from clew.decode import Hypothesis, beam, covered
from clew.errors import ConfigError
from clew.metrics import Edits, Tokens
from clew.models.paired import Paired
from clew.models.source import Source

UNSEEN = "decode.coverage needs a decoder with attention"
WATCHED = 500  # sources of the validation part that are written out, greedily, at each validation
AT_ONCE = 64  # sources that are read together


@torch.no_grad()
def search(
    model: Paired, sources: Sequence[PairExample], target: Vocabulary, decode: Decode, longest: int, nbest: int = 1
) -> list[list[Hypothesis]]:
    """The best texts for each source, as units, and what they are worth; targets of the examples are not looked at.

    Args:
        longest: the most units that a text of this model can have.
    """
    model.eval()
    device = next(model.parameters()).device
    found: list[list[Hypothesis]] = [[] for _ in sources]
    order = np.argsort([-len(example.source) for example in sources], kind="stable")
    never = torch.tensor(target.unwritable, dtype=torch.int64, device=device)
    for rows in (order[i : i + AT_ONCE] for i in range(0, len(order), AT_ONCE)):
        context = encoded(model, collate_pairs([sources[i] for i in rows]))
        begin = torch.full((len(rows), 1), END, device=device)
        logp, state = model.step(begin, model.init_state(len(rows), context), context)
        best = beam(
            model,
            logp,
            state,
            context,
            end=END,
            most=min(decode.longest, longest),
            width=max(decode.beam, nbest),
            nbest=nbest,
            length_penalty=decode.length_penalty,
            coverage=_coverage(model, decode),
            no_repeat=decode.no_repeat,
            never=never,
        )
        for i, hypotheses in zip(rows, best, strict=True):
            found[i] = hypotheses
    return found


def encoded(model: Paired, batch: PairBatch) -> Source:
    """The sources of a batch as the context of the decoder."""
    device = next(model.parameters()).device
    copied = None if batch.copied is None else batch.copied.to(device)
    return model.encode(batch.source.to(device), batch.source_lengths.to(device), copied)


@torch.no_grad()
def foreseen(model: Paired, examples: Sequence[PairExample]) -> Tokens:
    """The score of all target units, each given the true ones before it."""
    model.eval()
    metric, device = Tokens(), next(model.parameters()).device
    order = np.argsort([len(example.source) for example in examples], kind="stable")
    for rows in (order[i : i + AT_ONCE] for i in range(0, len(order), AT_ONCE)):
        batch = collate_pairs([examples[i] for i in rows])
        logp, _ = model(batch.x.to(device), None, encoded(model, batch), lengths=batch.lengths)
        nats = -logp.gather(-1, batch.target.to(device)[..., None])[..., 0][batch.supervised.to(device)]
        metric.update(float(nats.sum()), int(batch.lengths.sum()))
    return metric


def as_written(target: Vocabulary, text: str) -> str:
    """A text as it could be written at best: words have blanks between them, and perhaps no capitals."""
    text = text.lower() if isinstance(target, Known) and target.lowercase else text
    return " ".join(target.cut(text)) if isinstance(target, Words) else text


def errors(target: Vocabulary, written: Sequence[str], texts: Sequence[str]) -> dict[str, float]:
    """exact, cer and wer of texts beside what they should have been."""
    words, letters = Edits(), Edits()
    known = [as_written(target, text) for text in texts]
    words.update([text.split() for text in written], [[text.split()] for text in known])
    letters.update([list(text) for text in written], [[list(text)] for text in known])
    found = letters.result()
    return {"exact": found["exact"], "cer": found["token_error"], "wer": words.result()["token_error"]}


def commonest(texts: Sequence[str]) -> str:
    """What is said most often; the naive guess."""
    return Counter(texts).most_common(1)[0][0]


def longest_of(examples: Sequence[PairExample]) -> int:
    """The most units that a model which learns from these may write."""
    return 10 + 3 * max(len(example.target) for example in examples) // 2


def _coverage(model: Paired, decode: Decode) -> Callable[[Any], Tensor] | None:
    if not decode.coverage:
        return None
    if model.decoder.attend is None:
        raise ConfigError(UNSEEN, hint="leave it out, or train with model.attention")
    # What is padded is never looked at, and a place that is not always a little.
    return lambda state: covered(state.attend.seen, decode.coverage, state.attend.seen > 0)
