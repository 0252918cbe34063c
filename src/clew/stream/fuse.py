"""Fewer passes over memory from a list of operations.

What nobody reads is left out; a product and a sum become one operation; a new state is written where the state stands;
and what goes over the same dimensions goes together, tile by tile, so that what is between two operations stays in the
nearest cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

Op = IntEnum(
    "Op",
    "LINEAR TANH RELU GRU LSTM LOOKUP LAYER_NORM RMS_NORM LOG_SOFTMAX"
    " COPY NEG ABS NOT EXP EXPM1 EXP2 LOG LOG1P SQRT RSQRT RECIPROCAL SIN COS OF_TANH SIGMOID OF_RELU SILU GELU"
    " SOFTPLUS LOG_SIGMOID FINITE ADD SUB MUL DIV POW LARGER SMALLER EQ NE LT LE GT GE AND OR WHERE MULTIPLY_ADD"
    " SUM DOT MOST",
    start=0,
)
JOINED = 12  # at most, in csrc/step.h


class Entry(NamedTuple):
    """What is written and what is read. One over views has them all expanded to one shape, without dimensions of 1."""

    op: Op
    to: tuple[Tensor, ...]
    of: tuple[Tensor, ...]
    add: Callable[[list[int]], None] | None = None  # of one that is not over views: with the addresses of those

    @property
    def writes(self) -> set[int]:
        return {address(t) for t in self.to}

    @property
    def reads(self) -> set[int]:
        return {address(t) for t in self.of}


def address(t: Tensor) -> int:
    """Where the memory begins that it is a view of: the name of what is stored there."""
    return t.untyped_storage().data_ptr()


def over_views(op: Op, to: Tensor, *of: Tensor) -> Entry:
    """A reduction is over the dimensions in which `to` does not move."""
    shape = torch.broadcast_shapes(to.shape, *(t.shape for t in of))
    return Entry(op, (to.expand(shape).squeeze(),), tuple(t.expand(shape).squeeze() for t in of))


def fused(entries: list[Entry], ends: Iterable[Tensor]) -> list[Group]:
    """What leads to these tensors, as groups in order."""
    last = {address(t) for t in ends}
    entries = _needed(entries, last)
    entries = _merged(entries, last)
    return _grouped(_in_place(entries, last), last)


def _needed(entries: list[Entry], last: set[int]) -> list[Entry]:
    needed, kept = set(last), []
    for entry in reversed(entries):
        if entry.writes & needed:
            needed |= entry.reads
            kept.append(entry)
    return kept[::-1]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()


def _merged(entries: list[Entry], last: set[int]) -> list[Entry]:
    """a b + c and the sum of a b, each as one operation."""
    entries = list(entries)
    for i, product in enumerate(entries):
        name = next(iter(product.writes))
        if product.op != Op.MUL or name in last or product.to[0].dtype != torch.float32:
            continue
        readers = [j for j, e in enumerate(entries) if j != i and name in e.reads | e.writes]
        if len(readers) != 1 or (j := readers[0]) < i or any(e.writes & product.reads for e in entries[i + 1 : j]):
            continue
        reader = entries[j]
        whole = [_same(t, product.to[0]) for t in reader.of]
        if reader.op == Op.SUM and whole == [True]:
            entries[j] = reader._replace(op=Op.DOT, of=product.of)
        elif reader.op == Op.ADD and sum(whole) == 1:
            rest = reader.of[whole.index(False)]
            entries[j] = reader._replace(op=Op.MULTIPLY_ADD, of=(rest, *product.of))
        else:
            continue
        entries[i] = product._replace(to=(), of=())
    return [e for e in entries if e.to]


def _in_place(entries: list[Entry], last: set[int]) -> list[Entry]:
    """A new state that is copied to where the old one stood at the end is written there at once where nobody reads the
    old one any more."""
    entries = list(entries)
    for c in reversed(range(len(entries))):
        copy = entries[c]
        if copy.op != Op.COPY or address(copy.to[0]) not in last or address(copy.of[0]) in last:
            continue
        leaf, new = copy.to[0], copy.of[0]
        writers = [i for i, e in enumerate(entries) if address(new) in e.writes]
        if len(writers) != 1 or leaf.stride() != new.stride() or leaf.dtype != new.dtype:
            continue
        i, writer = writers[0], entries[writers[0]]
        others = [e for e in entries[i + 1 :] if e is not copy]
        if (
            not Op.COPY <= writer.op < Op.SUM
            or not _same(writer.to[0], new)
            or any(address(leaf) in e.reads | e.writes for e in others)
            or any(address(t) == address(leaf) and not _same(t, leaf) for t in writer.of)
        ):
            continue
        entries[i] = writer._replace(to=(leaf,))
        del entries[c]
        moved = leaf.storage_offset() - new.storage_offset()
        for j in range(i + 1, len(entries)):
            of = tuple(
                leaf.as_strided(t.shape, t.stride(), t.storage_offset() + moved) if address(t) == address(new) else t
                for t in entries[j].of
            )
            entries[j] = entries[j]._replace(of=of)
    return entries


@dataclass
class Group:
    """One operation, or several over views of the same dimensions that go together."""

    entries: list[Entry]
    writes: set[int] = field(default_factory=set)
    reads: set[int] = field(default_factory=set)
    between: set[int] = field(default_factory=set)  # what no other group needs

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.writes |= entry.writes
        self.reads |= entry.reads

    def before(self, entry: Entry) -> bool:
        """Whether this must be done before it."""
        return bool(self.writes & (entry.reads | entry.writes) or self.reads & entry.writes)

    def takes(self, entry: Entry) -> bool:
        """Whether it can go with these: what they share they meet in the same order at every place."""
        one = self.entries[0]
        if entry.add or one.add or len(self.entries) == JOINED or one.to[0].shape != entry.to[0].shape:
            return False
        for e in self.entries:
            for a, b in ((e.to[0], t) for t in (*entry.of, *entry.to)):
                if address(a) == address(b) and (
                    e.op >= Op.SUM or (entry.op >= Op.SUM and b is entry.to[0]) or not _same(a, b)
                ):
                    return False
            for a in e.of:
                if address(a) == address(entry.to[0]) and (entry.op >= Op.SUM or not _same(a, entry.to[0])):
                    return False
        return True


def _grouped(entries: list[Entry], last: set[int]) -> list[Group]:
    groups: list[Group] = []
    for entry in entries:
        place = None
        for group in reversed(groups):
            if group.takes(entry):
                place = group
            if place or group.before(entry):
                break
        if place is None:
            place = Group([])
            groups.append(place)
        place.add(entry)
    for group in groups:
        elsewhere = set().union(*(g.reads | g.writes for g in groups if g is not group))
        group.between = {address(e.to[0]) for e in group.entries if not e.add and e.op < Op.SUM} - elsewhere - last
    return groups
