"""Beam search on the CPU: a batch of sentences at once, beside one at a time and beside transformers.

python benchmarks/decoding.py [--seconds S] [--tokens T]

Writes results/6/decoding.json. 32 sentences, 5 hypotheses of each, 8,000 units, random weights, 2 threads; the end is
forbidden, so that every way makes the same number of tokens. What is found in a batch is first compared with what is
found one at a time.

What is searched is a language model: an LSTM of about 5 million parameters. transformers has no recurrent network of
that kind that its `generate` can search, so it searches what it is most used for: a GPT-2, a decoder alone as ours is,
of as many parameters, with its cache, its own beam search and the same number of sentences, hypotheses, units and
tokens. Its network does other arithmetic than ours, so that ratio is one of whole systems; `in_network` says which part
of each run's time is the network's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from race import Numbers, check, ratio, spread, turns
from result import commit, write
from torch import Tensor, nn

from clew import tree
from clew.cells import LSTM, Pointwise, Stack
from clew.decode import Hypothesis, Predictor, beam
from clew.models import Single
from clew.models.embed import Units
from clew.models.heads.classes import ClassHead
from clew.tree import State

SENTENCES, WIDTH, UNITS, END = 32, 5, 8000, 0
SIZE = 272  # of a unit's vector and of the state, one for both as in a transformer
TOLERANCE = 1e-5  # of the largest score; a unit that differs is over it
BAR = 3.0


class Searched(NamedTuple):
    """A model and where its search begins: of what is to be measured in its place, the same four."""

    name: str
    model: Predictor
    logp_BV: Tensor
    state: State
    context: State | None
    parameters: int


def language_model() -> Searched:
    """An LSTM, and its state after a unit that is another one in each sentence."""
    torch.manual_seed(0)
    stack = Stack(Pointwise(Units(UNITS, SIZE), 1, SIZE), LSTM(SIZE, SIZE))
    head = ClassHead(SIZE, UNITS)
    nn.init.normal_(head.readout.weight, std=1.0)  # as sure of itself as one that has learned
    model = Single(stack, head).eval()
    with torch.no_grad():
        logp, state = model(torch.arange(1, SENTENCES + 1)[:, None, None])
    return Searched("lstm", model, logp[:, -1], state, None, sum(p.numel() for p in model.parameters()))


def together(searched: Searched, tokens: int) -> list[Hypothesis]:
    _, model, logp, state, context, _ = searched
    never = torch.tensor([END])
    found = beam(model, logp, state, context, end=END, most=tokens, width=WIDTH, never=never)
    return [best for (best,) in found]


def one_at_a_time(searched: Searched, tokens: int) -> list[Hypothesis]:
    found = []
    for row in range(len(searched.logp_BV)):
        rows = torch.tensor([row])
        context = None if searched.context is None else tree.take(searched.context, rows)
        alone = searched._replace(logp_BV=searched.logp_BV[rows], state=tree.take(searched.state, rows))
        found += together(alone._replace(context=context), tokens)
    return found


def transformer(parameters: int, tokens: int) -> tuple[nn.Module, Callable[[], Tensor]]:
    """A GPT-2 of about so many parameters, and its search: units (32, 1 + tokens)."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {width: UNITS * width + 4 * 12 * width**2 for width in range(64, 1025, 8)}
    width = min(sizes, key=lambda w: abs(sizes[w] - parameters))
    config = GPT2Config(
        vocab_size=UNITS,
        n_positions=tokens + 1,
        n_embd=width,
        n_layer=4,
        n_head=4,
        bos_token_id=None,
        eos_token_id=None,  # so nothing ends
        pad_token_id=END,
    )
    model = GPT2LMHeadModel(config).eval()
    prompt = torch.arange(1, SENTENCES + 1)[:, None]

    def run() -> Tensor:
        with torch.no_grad():
            return model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                num_beams=WIDTH,
                do_sample=False,
                max_new_tokens=tokens,
                length_penalty=0.0,
                early_stopping=False,
                use_cache=True,
            )

    return model, run


def in_network(model: Any, method: str, run: Callable[[], Any]) -> float:
    """The part of a run's time that is spent in the network."""
    inside, real = 0.0, getattr(model, method)

    def timed(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        began = time.perf_counter()
        out = real(*args, **kwargs)
        inside += time.perf_counter() - began
        return out

    setattr(model, method, timed)
    try:
        began = time.perf_counter()
        run()
        return round(inside / (time.perf_counter() - began), 3)
    finally:
        setattr(model, method, real)


def numbers(run: Callable[[], list[Hypothesis]]) -> Callable[[], Numbers]:
    def as_numbers() -> Numbers:
        found = run()
        return [np.array([h.score for h in found]), np.array([h.units for h in found], dtype=np.float64)]

    return as_numbers


def measure(searched: Searched, seconds: float, tokens: int) -> dict[str, Any]:
    peer, generate = transformer(searched.parameters, tokens)
    ours = {
        "together": lambda: together(searched, tokens),
        "one at a time": lambda: one_at_a_time(searched, tokens),
    }
    difference = check({name: numbers(run) for name, run in ours.items()}, TOLERANCE)["one at a time"]
    made = generate()
    if made.shape != (SENTENCES, 1 + tokens) or not all(len(h.units) == tokens for h in ours["together"]()):
        raise SystemExit(f"transformers made {tuple(made.shape)}, not {tokens} tokens of each sentence")
    times = turns({**ours, "transformers": generate}, seconds, least=3)
    return {
        "ratio": {name: round(ratio(times, "together", name), 2) for name in times if name != "together"},
        "quarters": {name: spread(times, "together", name) for name in times if name != "together"},
        "tokens_a_second": {name: round(SENTENCES * tokens / statistics.median(t)) for name, t in times.items()},
        "in_network": {
            "together": in_network(searched.model, "step", ours["together"]),
            "one at a time": in_network(searched.model, "step", ours["one at a time"]),
            "transformers": in_network(peer, "forward", generate),
        },
        "parameters": {searched.name: searched.parameters, "gpt2": sum(p.numel() for p in peer.parameters())},
        "tokens": tokens,
        "difference": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the race")
    parser.add_argument("--tokens", type=int, default=48, help="of each sentence; results are written for 48")
    asked, before = parser.parse_args(), commit()
    torch.set_num_threads(2)
    figure = {}
    for searched in (language_model(),):
        figure[searched.name] = measure(searched, asked.seconds, asked.tokens)
        print(searched.name, figure[searched.name], flush=True)
    if asked.tokens == parser.get_default("tokens"):
        write(
            "6/decoding",
            f"beam search of {SENTENCES} sentences, width {WIDTH}, {UNITS} units, 2 threads on the CPU",
            seeds=[0],
            figure=figure,
            bar=f"at least {BAR} times as fast as one sentence at a time, and as transformers",
            met=all(each >= BAR for row in figure.values() for each in row["ratio"].values()),
            measured=before,
        )


if __name__ == "__main__":
    main()
