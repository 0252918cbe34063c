"""Transcribe: a sound, or any long sequence, in; the text that is in it, in order, out. Nobody says what is where.

read         a column of sound files (or columns of lists of numbers) and a column of texts
model        a convolution that makes fewer steps, a stack of recurrences, and CTC (`models.unaligned`)
baseline     the commonest text of the training part
metrics      wer, cer (edits / words, / characters), exact
predictions  the text, and how sure it is (nats); where it streams, what was said since the last line
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from clew.config import Recipe
from clew.data import inputs
from clew.data import vocabulary as vocabularies
from clew.data.inputs import Input, TextInput
from clew.data.pair_batch import PairBuckets
from clew.data.table import Table, column_name, labels
from clew.data.vocabulary import Vocabulary
from clew.errors import ConfigError, RunError
from clew.models.build import body_of
from clew.models.subsample import Subsample
from clew.models.unaligned import Unaligned
from clew.tasks import writing
from clew.tasks.base import Cells, Job, all_but, refuse_unused, say
from clew.tasks.guess import text_column
from clew.tasks.language import language_of
from clew.tasks.records import Record, deal, facts_of, gather, refuse_long, split_columns, spread
from clew.tasks.transcriber import Transcriber

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 128, "layers": 2, "dropout": 0.2},
    "train": {"epochs": 40, "batch": 16, "lr": 3e-3, "patience": 10},
    "decode": {"beam": 8},
}
UNUSED = (
    *(key for key in all_but("transcribe", "hear") if key not in ("data.target_unit", "decode.beam")),
    *("data.group", "data.channels", "data.source_unit", "model.pooling", "model.embedding", "model.word_dropout"),
    "model.letters",
    *("train.window", "train.stride", "train.supervise"),
    *("train.label_smoothing", "train.class_weights", "train.entropy_matching"),
)


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    """Read and part the records, learn the units and build the model."""
    d, t = recipe.data, recipe.train
    if not recipe.decode.language:
        hint = "leave it out, or name a run of --task generate as decode.language"
        refuse_unused(
            recipe, ("decode.language_weight", "decode.unit_bonus"), "a search without a language model", hint
        )
    hidden = split_columns(recipe, tables[0])
    column = column_name(tables[0], d.target) if d.target else text_column(tables[0], hidden)
    source = inputs.find(tables[0], d.inputs, [column, *hidden], mels=d.mels)
    if isinstance(source, TextInput):
        hint = "name a column of sound files or of lists of numbers as --input"
        raise ConfigError("texts are no sounds: one text from another is --task translate", hint=hint)
    unit = "character" if d.target_unit == "auto" else d.target_unit
    if unit not in ("character", "piece"):  # of the others a stream could not be said piece by piece
        hint = "set data.target_unit = character or piece"
        raise ConfigError(f"what is said cannot be written down in the unit '{unit}'", hint=hint)
    if not d.target or not d.inputs:
        say(f"target: '{column}'; input: {', '.join(map(repr, source.columns[:8]))}")

    def keys(records: list[Record]) -> Sequence[Hashable]:
        return source.keys([record.raw for record in records])

    parts = deal(recipe, tables, lambda given: gather(given, source, lambda table, _: labels(table, column)), keys)
    train, valid, test = parts
    refuse_long(train, [len(record.raw) for record in train], "cut it into pieces with a text each")
    texts = [record.answer for record in train]
    target = vocabularies.fit(unit, texts, lowercase=d.lowercase, min_count=d.min_count, largest=d.vocabulary)
    fitted = source.fit([record.raw for record in train])
    decode = recipe.decode
    if decode.language:  # what cannot be used is said before training, not behind it
        language_of(decode.language, target)
        decode = decode.model_copy(update={"language": str(Path(decode.language).resolve())})
    model = _model(recipe, fitted, target, cells)
    trained = Transcriber(model, fitted, column, target, writing.commonest(texts), decode)
    examples, teacher = ([trained.example(record) for record in part] for part in (train, valid))
    for record, example in zip(train, examples, strict=True):
        trained.refuse_narrow(record, example.target)
    watched, quick = spread(valid, writing.WATCHED), trained.searching(beam=1, language="")

    def validate() -> dict[str, float]:
        nats, found = trained.surprise(teacher), quick.metrics(quick.write(watched), watched)
        return {"loss": found["cer"] + 0.01 * min(nats, 10.0), "nats": nats, **found}

    resolved = {"inputs": source.columns, "target": column, "target_unit": unit}
    recipe = recipe.model_copy(update={"data": d.model_copy(update=resolved), "decode": decode})
    batches = PairBuckets(examples, t.batch)
    facts = facts_of(parts, keys)
    return Job(recipe, trained, batches, validate, lambda: trained.score(test), every=len(batches), facts=facts)


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Transcriber:
    try:
        source, target = inputs.from_json(saved["input"], file), vocabularies.from_json(saved["target"], file)
        column, naive = str(saved["column"]), str(saved["commonest"])
        if isinstance(source, TextInput) or target.width != 1:
            raise ValueError("sounds, and units that can be written")
    except RunError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RunError(f"does not hold what this run needs: {error}", file=file, hint="train it again") from error
    return Transcriber(_model(recipe, source, target, cells), source, column, target, naive, recipe.decode)


def _model(recipe: Recipe, source: Input, target: Vocabulary, cells: Cells | None) -> Unaligned:
    assert not isinstance(source, TextInput)
    m = recipe.model
    body = body_of(m, m.width, cells)
    return Unaligned(Subsample(source.channels, m.width, m.subsample), body, target.size, m.dropout)
