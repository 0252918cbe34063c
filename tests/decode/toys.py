"""Small models to search, and slow ways to find what a search should find."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clew.cells import RECURRENCES, Pointwise, Stack
from clew.decode import Hypothesis, Predictor, teacher_forced
from clew.models import Single
from clew.models.embed import Units
from clew.models.heads.classes import ClassHead
from clew.tree import State

CELLS = ("lstm", "gru", "mamba", "rwkv7", "mlstm", "attention", "mingru")
END = 0


def single(cell: str, units: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Single:
    """A random model over units, sure enough of itself that hypotheses differ."""
    torch.manual_seed(seed)
    options = {"window": 8} if cell == "attention" else {}
    stack = Stack(Pointwise(Units(units, 6), 1, 6), RECURRENCES[cell](6, 8, **options))
    nn.init.normal_(stack.layers[0].module.vectors.weight)
    head = ClassHead(8, units)
    nn.init.normal_(head.readout.weight, std=2.0)
    return Single(stack, head).to(dtype).eval()


def begun(model: Single, rows: int, seed: int = 0) -> tuple[Tensor, State]:
    """The prediction after a random prompt of three units, and the state after it."""
    units = model.head.readout.out_features
    prompt = torch.randint(units, (rows, 3, 1), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        logp, state = model(prompt)
    return logp[:, -1], state


class Node(NamedTuple):
    place: Tensor  # (B,) in the table
    seen: Tensor  # (B, S) attention so far


class Table:
    """Predictions that are looked up by the way here, so that they are the same to the last bit in every batch.

    Context moves the place. `rows` keeps how many rows each step had.
    """

    def __init__(self, units: int, seed: int, size: int = 211, ends: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(size, units, generator=generator)
        logits[:, END] += ends
        self.logp = logits.double().log_softmax(-1).float()
        self.attention = torch.rand(size, 3, generator=generator).softmax(-1)
        self.units, self.size, self.rows = units, size, []

    def begin(self, rows: int, seed: int = 0) -> tuple[Tensor, Node]:
        place = torch.randint(self.size, (rows,), generator=torch.Generator().manual_seed(seed))
        return self.logp[place], Node(place, self.attention[place])

    def step(self, x_B1: Tensor, state: Node, context: Tensor | None = None) -> tuple[Tensor, Node]:
        self.rows.append(len(x_B1))
        moved = 0 if context is None else context
        place = (state.place * 7 + x_B1[:, 0] * 13 + 1 + moved) % self.size
        return self.logp[place], Node(place, state.seen + self.attention[place])


def every(
    model: Predictor, logp_1V: Tensor, state: State, most: int, repeat: Callable[[State, int], State]
) -> tuple[list[Hypothesis], list[float]]:
    """All hypotheses of at most so many choices with their log-probabilities as scores, and how long each is."""
    units = [unit for unit in range(logp_1V.shape[1]) if unit != END]
    found, choices = [], []
    for finished in (True, False):
        lengths = range(most) if finished else [most]
        sequences = [sequence for n in lengths for sequence in itertools.product(units, repeat=n)]
        N, T = len(sequences), max(lengths)
        padded = torch.tensor([list(sequence) + [-7] * (T - len(sequence)) for sequence in sequences]).view(N, T)
        length = torch.tensor([len(sequence) for sequence in sequences])
        with torch.no_grad():
            logp = teacher_forced(
                model, logp_1V.expand(N, -1), repeat(state, N), None, padded, length, END if finished else None
            )
        found += [Hypothesis(s, p, p, finished) for s, p in zip(sequences, logp.tolist(), strict=True)]
        choices += [len(sequence) + finished for sequence in sequences]
    return found, choices


def ranked(hypotheses: Iterable[Hypothesis]) -> list[Hypothesis]:
    """Finished ones first, then by score."""
    return sorted(hypotheses, key=lambda h: (not h.finished, -h.score))


def slow_beam(
    model: Predictor,
    logp_1V: Tensor,
    state: State,
    context: State | None,
    *,
    most: int,
    width: int,
    nbest: int,
    least: int = 0,
    divisor: Callable[[int], float] = lambda n: 1.0,
    extra: Callable[[State], float] = lambda state: 0.0,
    no_repeat: int = 0,
    never: Iterable[int] = (),
    prefix: tuple[int, ...] = (),
    allow: Callable[[tuple[int, ...]], set[int]] | None = None,
    monotonic: bool = False,
) -> list[Hypothesis]:
    """What `beam` says it finds for one row: lists, one hypothesis after the other, and no early stop."""
    done: list[Hypothesis] = []
    slots: list = [((), 0.0, logp_1V[0].tolist(), state)]

    def retire(units: tuple[int, ...], total: float, state: State, finished: bool) -> None:
        n = max(1, len(units) + finished)
        done.append(Hypothesis(units, total / divisor(n) + extra(state), total, finished))

    for t in range(most):
        children = []
        for i, slot in enumerate(slots):
            if slot is None:
                continue
            units, total, logp, before = slot
            allowed = set(range(len(logp))) - set(never)
            if t < least:
                allowed -= {END}
            if no_repeat:
                grams = {units[j : j + no_repeat] for j in range(len(units) - no_repeat + 1)}
                last = units[len(units) - no_repeat + 1 :]
                allowed = {u for u in allowed if len(units) < no_repeat - 1 or (*last, u) not in grams}
            if allow:
                allowed &= allow(units)
            if t < len(prefix) and prefix[t] >= 0:
                allowed = {prefix[t]}
            allowed = {u for u in allowed if logp[u] > -math.inf}
            if not allowed:
                retire(units, total, before, False)
            children += [(total + logp[u], i, u) for u in sorted(allowed)]
        children.sort(key=lambda child: -child[0])  # stable: the better parent, the lower unit
        chosen: list = []
        if monotonic:
            for k in range(width):
                mine = next((c for c in children if c[1] <= k), None)
                chosen.append(mine)
                if mine is not None:
                    children.remove(mine)
        else:
            chosen = children[:width]
        following: list = []
        for child in chosen:
            following.append(None)
            if child is None:
                continue
            total, i, unit = child
            units, _, _, before = slots[i]
            if unit == END:
                retire(units, total, before, True)
            elif t + 1 == most:
                retire((*units, unit), total, before, False)
            else:
                with torch.no_grad():
                    logp, after = model.step(torch.tensor([[unit]]), before, context)
                following[-1] = ((*units, unit), total, logp[0].tolist(), after)
        slots = following
    return ranked(done)[:nbest]
