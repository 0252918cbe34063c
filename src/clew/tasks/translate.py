"""Translate: a text in, another text of its own length out: a language, a spelling, a summary.

read         two columns of text, or two files line by line; rows with the same source are one text with several
             references where it is scored, and each a pair of its own where it is learned from
model        an encoder, and a decoder that finds its places in the source by attention (`models.paired`)
baseline     the source itself
metrics      bleu and chrf (with sacrebleu), token_error, exact; a token is a letter where letters are written, else
             what stands between blanks
predictions  the text that the model gives the highest score, or the best of them; how sure it is (nats)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clew.config import Data, Recipe
from clew.data import pairs
from clew.data import vocabulary as vocabularies
from clew.data.pair_batch import PairBuckets
from clew.data.pairs import Pair
from clew.data.split import same_input_keys
from clew.data.table import Table
from clew.errors import ConfigError, read_back
from clew.models.build import paired
from clew.tasks import writing
from clew.tasks.base import Cells, Job, Scores, all_but, say
from clew.tasks.classify import unit
from clew.tasks.picture import draw_alignments
from clew.tasks.records import deal, facts_of, spread
from clew.tasks.translator import Columns, Translator

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 256, "embedding": 128, "bidirectional": True, "dropout": 0.2},
    "train": {"epochs": 20, "batch": 64, "lr": 2e-3, "patience": 6, "label_smoothing": 0.1},
}
UNUSED = (
    *(*all_but("write"), "data.group", "data.channels", "model.pooling"),
    *("train.class_weights", "train.window", "train.stride", "train.supervise"),
)
WRITTEN = {"word": "piece", "word+character": "piece"}  # a unit that is read: the one that is written, if another
DRAWN = 3  # alignments in the picture of a run


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    """Read and part the pairs, learn both vocabularies and build the model."""
    d, t = recipe.data, recipe.train
    columns = Columns(*pairs.columns_of(tables[0], d.inputs, d.target))
    if not d.target or not d.inputs:
        say(f"source: '{columns.source}'; target: '{columns.target}'")
    if recipe.decode.coverage and recipe.model.attention == "none":
        raise ConfigError(writing.UNSEEN, hint="leave it out, or set model.attention")

    def keys(some: list[Pair]) -> list[str]:
        return same_input_keys([pair.source for pair in some])

    parts = deal(recipe, tables, lambda given: pairs.of_tables(given, *columns), keys)
    train, valid, test = parts
    learned = pairs.single(train)
    texts = [pair.source for pair in train], [pair.targets[0] for pair in learned]
    units = _units(d, texts[0], recipe.model.copying)
    if recipe.model.copying:
        texts = (texts[0] + texts[1],) * 2
    source, target = (
        vocabularies.fit(name, some, lowercase=d.lowercase, min_count=d.min_count, largest=d.vocabulary)
        for name, some in zip(units, texts, strict=True)
    )
    examples = pairs.encode(learned, source, target, recipe.model.copying)
    longest = writing.longest_of(examples)
    trained = Translator(paired(recipe, source, target, cells), columns, source, target, longest, recipe.decode)
    watched, teacher = spread(valid, writing.WATCHED), trained.examples(valid)
    trained.examples(test)  # what cannot be scored is said before training, not behind it

    def validate() -> dict[str, float]:
        nats = writing.foreseen(trained.model, teacher).result()["nats"]
        greedy = trained.searching(beam=1).write([pair.source for pair in watched])
        found = trained.edits(greedy, [pair.targets for pair in watched])
        return {"loss": found["token_error"] + 0.01 * min(nats, 10.0), "nats": nats, **found}

    found = {"inputs": [columns.source], "target": columns.target, "source_unit": units[0], "target_unit": units[1]}
    recipe = recipe.model_copy(update={"data": d.model_copy(update=found)})
    batches = PairBuckets(examples, t.batch)
    facts = facts_of(parts, keys) | {"units": {"source": source.size, "target": target.size}}

    def score() -> Scores:
        scores, facts["signatures"] = trained.score(test)
        return scores

    def draw(folder: Path) -> None:
        if trained.model.decoder.attend is not None:
            draw_alignments(folder / "alignment.svg", [trained.alignment(pair.source) for pair in test[:DRAWN]])

    return Job(recipe, trained, batches, validate, score, every=len(batches), facts=facts, draw=draw)


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Translator:
    with read_back(file):
        source, target = (vocabularies.from_json(saved[name], file) for name in ("source", "target"))
        columns, longest = Columns(*(str(name) for name in saved["columns"])), int(saved["longest"])
        if longest < 1 or target.width != 1:
            raise ValueError("units that can be written")
    return Translator(paired(recipe, source, target, cells), columns, source, target, longest, recipe.decode)


def _units(data: Data, sources: list[str], copying: bool) -> tuple[str, str]:
    """What sources and targets are cut into; what is copied is the same in both."""
    guess = unit(sources)
    asked = {name for name in (data.source_unit, data.target_unit) if name != "auto"}
    if not copying:
        source = guess if data.source_unit == "auto" else data.source_unit
        return source, WRITTEN.get(source, source) if data.target_unit == "auto" else data.target_unit
    if len(asked) > 1 or "word+character" in asked:
        what = "what is copied is cut alike in source and target, into what can be written"
        raise ConfigError(what, hint="set data.target_unit alone, or model.copying = false")
    both = asked.pop() if asked else WRITTEN.get(guess, guess)
    return both, both
