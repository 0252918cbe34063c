"""Point: items in, an order of them out, or of some of them: sorting, a hull, a round trip.

read         a row of items and the order that belongs to them (`data.items`); each channel of numbers is standardised,
             a text is a word with its letters
model        a pointer network (`models.pointer`); no item twice, and where every order that it learns from holds all
             items, the end when all have come
baseline     the order as given: 0, 1, 2, ...
metrics      exact (the share of orders that are right), token_error (edits / places), and of points of the plane that
             every order visits length_ratio (how many times as long as the given round trip, the mean)
predictions  the order that the model gives the highest score, and how sure it is (nats)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clew.config import Decode, Recipe
from clew.data import inputs, items
from clew.data.inputs import Input, Raw, TextInput
from clew.data.items import ItemRecord
from clew.data.pair_batch import PairBuckets, PairExample, collate_pairs
from clew.data.table import Table
from clew.data.vocabulary import END
from clew.decode.pool import Hypothesis
from clew.decode.search import beam
from clew.errors import ConfigError, read_back
from clew.metrics import Edits, Tokens, length_ratio
from clew.models.build import embedding
from clew.models.pointer import PointerNet
from clew.models.pointer_build import pointer_net
from clew.tasks.base import Cells, Job, Predictions, Scores, Searching, Shown, all_but, say
from clew.tasks.records import deal, facts_of, spread
from clew.training.feed import to_device

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 128, "bidirectional": True, "attention": "additive"},
    "train": {"epochs": 30, "batch": 64, "lr": 3e-3, "patience": 8, "weight_decay": 0.0},
}
UNUSED = (
    *(*all_but("write"), "data.group", "data.channels", "data.target_unit", "model.pooling"),
    *("model.attention_heads", "model.feed", "model.tied", "model.copying"),
    *("train.window", "train.stride", "train.supervise", "train.label_smoothing", "train.class_weights"),
    *("train.scheduled_sampling", "train.coverage", "train.entropy_matching", "decode.coverage"),
)
AT_ONCE = 128  # rows that are read together
WATCHED = 500  # rows of the validation part that are ordered, greedily, at each validation


class Orderer(Searching):
    """A trained pointer network.

    Args:
        whole: whether every order holds all items.
    """

    def __init__(self, model: PointerNet, source: Input, order: str, whole: bool, decode: Decode) -> None:
        self.model, self.source, self.order, self.whole, self.decode = model, source, order, whole, decode

    def to_json(self) -> dict[str, Any]:
        return {"input": self.source.to_json(), "order": self.order, "whole": self.whole}

    @torch.no_grad()
    def search(self, raws: Sequence[Raw]) -> list[Hypothesis]:
        """The best order for each row's items, in places, and what it is worth."""
        self.model.eval()
        d, device = self.decode, next(self.model.parameters()).device
        found: list[Hypothesis | None] = [None] * len(raws)
        by_size = np.argsort([len(raw) for raw in raws], kind="stable")
        for rows in (by_size[i : i + AT_ONCE] for i in range(0, len(by_size), AT_ONCE)):
            examples = [PairExample(self.source.encode(raws[i]), np.zeros(0, np.int64)) for i in rows]
            batch = collate_pairs(examples)
            context = self.model.encode(batch.source.to(device), batch.source_lengths.to(device))
            begin = torch.full((len(rows), 1), END, device=device)
            logp, state = self.model.step(begin, self.model.init_state(len(rows), context), context)
            best = beam(
                self.model,
                logp,
                state,
                context,
                end=END,
                most=batch.source_lengths.clamp(max=d.longest) + 1,
                width=d.beam,
                length_penalty=d.length_penalty,
                no_repeat=d.no_repeat,
            )
            for i, hypotheses in zip(rows, best, strict=True):
                found[i] = hypotheses[0]
        return [one for one in found if one is not None]

    def orders(self, raws: Sequence[Raw]) -> list[np.ndarray]:
        """The best order for each row's items, counted from 0."""
        return [np.array(best.units, dtype=np.int64) - 1 for best in self.search(raws)]

    @torch.no_grad()
    def nats(self, examples: Sequence[PairExample]) -> float:
        """The mean surprise of a place, each given the true ones before it."""
        self.model.eval()
        metric, device = Tokens(), next(self.model.parameters()).device
        for i in range(0, len(examples), AT_ONCE):
            batch = to_device(collate_pairs(examples[i : i + AT_ONCE]), device)
            metric.update(float(self.model.loss(batch)) * batch.losses, batch.losses)
        return metric.result()["nats"]

    def score(self, records: Sequence[ItemRecord]) -> Scores:
        given = [np.arange(len(record.items)) for record in records]
        ours = metrics(self.orders([record.items for record in records]), records)
        return ours, {"given": metrics(given, records)}, len(records)

    def evaluate(self, tables: list[Table]) -> Scores:
        return self.score([record for table in tables for record in items.read(table, self.source, self.order)])

    def predictions(self, table: Table, horizon: int = 0) -> Predictions:
        best = self.search(items.read_items(table, self.source))
        rows = [
            [row, [place - 1 for place in one.units], -one.logp] for row, one in zip(table.lines, best, strict=True)
        ]
        return Predictions(["row", self.order, "nats"], rows)

    def shown(self, tables: list[Table], most: int) -> list[Shown]:
        records = spread([one for table in tables for one in items.read(table, self.source, self.order)], most)
        found = []
        for record, order in zip(records, self.orders([record.items for record in records]), strict=True):
            wrong = metrics([order], [record])["token_error"]
            example = PairExample(self.source.encode(record.items), record.order + 1)
            place = f"{record.file}, row {record.row}"
            found.append(Shown(place, example, str(record.order.tolist()), str(order.tolist()), wrong))
        return found


def metrics(orders: Sequence[np.ndarray], records: Sequence[ItemRecord]) -> dict[str, float]:
    """How near orders come to those of the records."""
    edits = Edits()
    edits.update([order.tolist() for order in orders], [[record.order.tolist()] for record in records])
    found = edits.result()
    plane = all(isinstance(record.items, np.ndarray) and record.items.shape[1] == 2 for record in records)
    if records and plane and _whole(records):
        pairs = zip(orders, records, strict=True)
        ratios = [length_ratio(record.items[None], order[None], record.order[None])[0] for order, record in pairs]
        found["length_ratio"] = float(np.mean(ratios))
    return found


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    """Read and part the records, and build the model."""
    d, t = recipe.data, recipe.train
    source, order = items.find(tables[0], d.inputs, d.target)
    if not d.target or not d.inputs:
        say(f"items: {', '.join(repr(name) for name in source.columns)}; order: '{order}'")
    unit = "word+character" if d.source_unit == "auto" and isinstance(source, TextInput) else d.source_unit
    if unit not in ("auto", "word", "word+character"):
        hint = "set data.source_unit = word+character or word"
        raise ConfigError(f"an item cannot be cut into the unit '{unit}'", hint=hint)

    def keys(records: list[ItemRecord]) -> Sequence[Any]:
        return source.keys([record.items for record in records])

    parts = deal(recipe, tables, lambda given: [r for table in given for r in items.read(table, source, order)], keys)
    train, valid, test = parts
    raws = [record.items for record in train]
    fitted = source.fit(raws, unit, lowercase=d.lowercase, min_count=d.min_count, largest=d.vocabulary)
    whole = _whole([*train, *valid])  # an end that the model bars could not be scored
    trained = Orderer(_model(recipe, fitted, whole, cells), fitted, order, whole, recipe.decode)
    examples, teacher = items.encode(train, fitted), items.encode(valid, fitted)

    watched = spread(valid, WATCHED)

    def validate() -> dict[str, float]:
        greedy = trained.searching(beam=1).orders([record.items for record in watched])
        nats, found = trained.nats(teacher), metrics(greedy, watched)
        # Nats go on telling models apart where hardly an order is right yet.
        return {"loss": found["token_error"] + min(nats, 10.0), "nats": nats, **found}

    resolved = {"inputs": source.columns, "target": order, "source_unit": unit}
    batches = PairBuckets(examples, t.batch)
    return Job(
        recipe.model_copy(update={"data": d.model_copy(update=resolved)}),
        trained,
        batches,
        validate,
        lambda: trained.score(test),
        every=len(batches),
        facts=facts_of(parts, keys),
    )


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Orderer:
    with read_back(file):
        source, order, whole = inputs.from_json(saved["input"], file), str(saved["order"]), bool(saved["whole"])
        if not (source.cut if isinstance(source, TextInput) else getattr(source, "layout", "") == "lists"):
            raise ValueError("lists of items")
    return Orderer(_model(recipe, source, whole, cells), source, order, whole, recipe.decode)


def _model(recipe: Recipe, source: Input, whole: bool, cells: Cells | None) -> PointerNet:
    m = recipe.model
    if m.attention not in ("additive", "dot", "bilinear", "scaled_dot"):
        hint = "set model.attention = additive, dot, bilinear or scaled_dot"
        raise ConfigError(f"'{m.attention}' attention cannot point", hint=hint)
    front = None
    if isinstance(source, TextInput):
        front = embedding(source.known, m.embedding or min(m.width, 128), m.letters, m.word_dropout)
    return pointer_net(
        m.cell,
        source.known.width if isinstance(source, TextInput) else source.channels,
        m.width,
        m.layers,
        bidirectional=m.bidirectional,
        decoder=m.decoder,
        score=m.attention,
        whole=whole,
        front=front,
        cells=cells,
        dropout=m.dropout,
        residual=m.residual,
        norm=m.norm,
        mlp=m.mlp,
        options=m.cell_options,
    )


def _whole(records: Sequence[ItemRecord]) -> bool:
    """Whether every order holds all items; none holds one twice."""
    return all(len(record.order) == len(record.items) for record in records)
