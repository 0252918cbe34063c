"""Transcribe: a sound, or any long sequence, in; the text that is in it, in order, out. Nobody says what is where.

read         a column of sound files (or columns of lists of numbers) and a column of texts
model        a convolution that makes fewer steps, a stack of recurrences, and CTC (`models.unaligned`)
baseline     the commonest text of the training part
metrics      wer, cer (edits / words, / characters), exact
predictions  the text, and how sure it is (nats); where it streams, what was said since the last line
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clew.config import Recipe
from clew.data.pair_batch import PairBuckets
from clew.data.table import Table
from clew.errors import ConfigError
from clew.models.build import body_of, front_of
from clew.models.subsample import Subsample
from clew.models.unaligned import Unaligned
from clew.tasks import saying, writing
from clew.tasks.base import Cells, Job, all_but, refuse_unused
from clew.tasks.language import language_of
from clew.tasks.records import spread
from clew.tasks.saying import Said
from clew.tasks.transcriber import Transcriber

DEFAULTS: dict[str, dict[str, Any]] = {
    "model": {"width": 128, "layers": 2, "dropout": 0.2},
    "train": {"epochs": 40, "batch": 16, "lr": 3e-3, "patience": 10},
    "decode": {"beam": 8},
}
UNUSED = (
    *(key for key in all_but("transcribe", "hear", "mask") if key not in ("data.target_unit", "decode.beam")),
    *("data.group", "data.channels", "data.source_unit", "model.pooling", "model.embedding", "model.word_dropout"),
    "model.letters",
    *("train.window", "train.stride", "train.supervise"),
    *("train.label_smoothing", "train.class_weights", "train.entropy_matching"),
)


def prepare(recipe: Recipe, tables: list[Table], cells: Cells | None) -> Job:
    """Read and part the records, learn the units and build the model."""
    if not recipe.decode.language:
        hint = "leave it out, or name a run of --task generate as decode.language"
        refuse_unused(
            recipe, ("decode.language_weight", "decode.unit_bonus"), "a search without a language model", hint
        )
    unit = "character" if recipe.data.target_unit == "auto" else recipe.data.target_unit
    if unit not in ("character", "piece"):  # of the others a stream could not be said piece by piece
        hint = "set data.target_unit = character or piece"
        raise ConfigError(f"what is said cannot be written down in the unit '{unit}'", hint=hint)
    told = saying.told(recipe, tables)
    train, valid, test = told.parts
    said = told.learned(recipe, unit)
    decode = recipe.decode
    if decode.language:  # what cannot be used is said before training, not behind it
        language_of(decode.language, said.target)
        decode = decode.model_copy(update={"language": str(Path(decode.language).resolve())})
    trained = Transcriber(_model(recipe, said, cells), said, decode)
    examples, teacher = ([trained.example(record) for record in part] for part in (train, valid))
    for record, example in zip(train, examples, strict=True):
        trained.refuse_narrow(record, example.target)
    watched, quick = spread(valid, writing.WATCHED), trained.searching(beam=1, language="")

    def validate() -> dict[str, float]:
        nats, found = trained.surprise(teacher), quick.metrics(quick.write(watched), watched)
        return {"loss": found["cer"] + 0.01 * min(nats, 10.0), "nats": nats, **found}

    batches, recipe = PairBuckets(examples, recipe.train.batch), told.resolved(recipe, unit)
    return Job(
        recipe.model_copy(update={"decode": decode}),
        trained,
        batches,
        validate,
        lambda: trained.score(test),
        every=len(batches),
        facts=told.facts,
    )


def restore(recipe: Recipe, saved: dict[str, Any], file: Path, cells: Cells | None) -> Transcriber:
    said = saying.from_json(saved, file)
    return Transcriber(_model(recipe, said, cells), said, recipe.decode)


def _model(recipe: Recipe, said: Said, cells: Cells | None) -> Unaligned:
    m = recipe.model
    front, body = Subsample(said.source.channels, m.width, m.subsample), body_of(m, m.width, cells)
    masking = front_of(m, recipe.train, said.source.channels)
    return Unaligned(front, body, said.target.size, m.dropout, masking)
