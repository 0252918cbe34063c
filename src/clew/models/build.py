"""From names to objects: the only place where a recipe's words become modules."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from torch import Tensor, nn

from clew.cells import POOLS, RECURRENCES, Bidirectional, BothEnds, Pointwise, Recurrence, Residual, Stack
from clew.cells.compose import make_norm
from clew.config import Model, Recipe, Train
from clew.data.vocabulary import Vocabulary, WordsAndLetters
from clew.errors import ConfigError, did_you_mean
from clew.models.anchored import Anchored
from clew.models.attention import Attend
from clew.models.decoder import Decoder
from clew.models.embed import Units, WordsWithLetters
from clew.models.frames import FrameEncoder, Masking
from clew.models.heads.classes import ClassHead, Tied
from clew.models.heads.copying import CopyHead
from clew.models.heads.forecast import ForecastHead
from clew.models.paired import Paired, summary_size
from clew.models.scores import make_score
from clew.models.single import Single

Table = Mapping[str, type[Recurrence]]


def body(
    cell: str,
    input_size: int,
    width: int,
    layers: int = 1,
    *,
    dropout: float = 0.0,
    residual: bool = False,
    norm: str = "none",
    mlp: float = 0.0,
    options: Mapping[str, object] | None = None,
    cells: Table | None = None,
    bidirectional: bool = False,
    front: Recurrence | None = None,
    pooling: str = "",
) -> Stack:
    """A stack of cells.

    Args:
        cell: a name of `clew cells`, or of `cells`; or several, joined by "+", that the layers take in turn.
        residual: every layer but the first adds to what it reads; `norm` then stands before it, else behind it.
        mlp: every layer, the first too, is a block of a language model: `cells.Residual` with an MLP of so many times
            the width; a linear map below where the widths differ, and `norm` above all.
        options: the cells' own options, by name; each cell takes those that it has.
        cells: a user's own recurrences by name, beside those of the table.
        bidirectional: two cells a layer, of `width` each; the result is an Encoder.
        front: what stands below, from `input_size` to what the first layer reads.
        pooling: what stands above: a name of `cells.POOLS`, or "last".

    Raises:
        ConfigError: an unknown cell or option.
    """
    kinds = find_cells(cell, cells)
    if layers < len(kinds):
        raise ConfigError(f"'{cell}' are {len(kinds)} cells in turn, but there are {layers} layers", hint="set layers")
    own = _shared_out(cell, kinds, options or {})
    parts: list[Any] = [front] if front else []  # recurrences, and encoders where it is bidirectional
    through = width * (2 if bidirectional else 1)
    for i in range(layers):
        wide = parts[-1].output_size if parts else input_size
        if mlp and wide != through:
            parts.append(Pointwise(nn.Linear(wide, through), wide, through))
            wide = through
        kind = kinds[i % len(kinds)]
        layer: Any = kind(wide, width, **own[kind])
        ends = [layer.output_size]
        if bidirectional:
            layer = Bidirectional(layer, kind(wide, width, **own[kind]))
            ends = ends * 2
        wrapped = bool(mlp or (residual and layer.output_size == layer.input_size and i))
        parts.append(Residual(layer, norm, mlp) if wrapped else layer)
        if norm != "none" and (not wrapped or (mlp and i == layers - 1)):
            parts.append(Pointwise(make_norm(norm, layer.output_size), layer.output_size))
        if pooling == "last" and bidirectional and i == layers - 1:
            parts.append(BothEnds(*ends))
    if isinstance(front, Masking):  # the input is hidden here and there, and not dropped beside
        parts[:2] = [Stack(*parts[:2])]
    if pooling and pooling != "last":
        parts.append(POOLS[pooling](parts[-1].output_size))
    return Stack(*parts, dropout=dropout)


def _shared_out(cell: str, kinds: Sequence[type[Recurrence]], options: Mapping[str, object]) -> dict[type, dict]:
    """To each kind the options that it has, of the types that it wants.

    Raises:
        ConfigError: no kind has an option, or a value is of another type.
    """
    allowed = {
        kind: [name for name, p in inspect.signature(kind).parameters.items() if p.kind is p.KEYWORD_ONLY]
        for kind in kinds
    }
    every = [name for names in allowed.values() for name in names]
    for name in options:
        if name not in every:
            raise ConfigError(f"the cell '{cell}' has no option '{name}'", hint=did_you_mean(name, every))
    return {
        kind: {name: _checked(kind, name, value) for name, value in options.items() if name in names}
        for kind, names in allowed.items()
    }


def _checked(kind: type[Recurrence], name: str, value: object) -> Any:
    """The value as the option's annotation has it; as it is where that says nothing (a user's own cell)."""
    try:
        wanted = TypeAdapter(get_type_hints(kind.__init__).get(name, Any))
    except (NameError, PydanticUserError):
        return value
    try:
        return wanted.validate_python(value, strict=not isinstance(value, list))  # a recipe has lists for tuples
    except ValidationError as error:
        what = error.errors()[0]["msg"]
        raise ConfigError(f"the cell's option '{name}': {what[0].lower() + what[1:]} (got {value!r})") from error


def body_of(
    model: Model, input_size: int, cells: Table | None = None, front: Recurrence | None = None, pooling: str = ""
) -> Stack:
    """The body that a recipe's [model] asks for, above a front where there is one. See `body`."""
    return body(
        model.cell,
        front.input_size if front else input_size,
        model.width,
        model.layers,
        dropout=model.dropout,
        residual=model.residual,
        norm=model.norm,
        mlp=model.mlp,
        options=model.cell_options,
        cells=cells,
        bidirectional=model.bidirectional,
        front=front,
        pooling=pooling,
    )


def front_of(model: Model, train: Train, channels: int, frame: tuple[int, int, int] | None = None) -> Recurrence | None:
    """What stands between numbers and the first layer: parts hidden in training, images made to vectors; None for
    nothing.

    Args:
        channels: numbers of a step.
        frame: height, width and colours of the image that each step is.
    """
    parts: list[Recurrence] = []
    if train.mask_steps or train.mask_channels:
        parts.append(Masking(channels, train.mask_steps, train.mask_channels))
    if frame:
        parts.append(Pointwise(FrameEncoder(*frame, model.width), channels, model.width))
    return Stack(*parts) if len(parts) > 1 else parts[0] if parts else None


def embedding(vocabulary: Vocabulary, width: int, letters: int, word_dropout: float) -> Pointwise:
    """Vectors for the units that a vocabulary gives."""
    if isinstance(vocabulary, WordsAndLetters):
        sizes = (vocabulary.size, vocabulary.letters_size)
        module: Units | WordsWithLetters = WordsWithLetters(*sizes, width, letters, word_dropout)
    else:
        module = Units(vocabulary.size, width, word_dropout)
    return Pointwise(module, vocabulary.width, module.output_size)


def paired(
    recipe: Recipe,
    source: Vocabulary | int,
    target: Vocabulary,
    cells: Table | None = None,
    frame: tuple[int, int, int] | None = None,
) -> Paired:
    """The encoder and decoder that a recipe asks for, from texts or numbers to the units of a
    vocabulary.

    Args:
        source: the units of the sources, or how many numbers a step of them has.
        frame: see `front_of`.

    Raises:
        ConfigError: an unknown cell, option or attention; tied vectors of another width than what is put out.
    """
    m, t = recipe.model, recipe.train
    if m.attention_heads and m.attention != "multi_head":
        hint = "set model.attention = multi_head, or leave it out"
        raise ConfigError(f"model.attention_heads says nothing to '{m.attention}' attention", hint=hint)
    if m.copying and t.entropy_matching:
        raise ConfigError("train.entropy_matching says nothing where words are copied", hint="leave one of them out")
    width = m.embedding or min(m.width, 128)
    if isinstance(source, int):
        front = front_of(m, t, source, frame)
    else:
        front = embedding(source, width, m.letters, m.word_dropout)
    encoder = body_of(m, source if isinstance(source, int) else 1, cells, front)
    units, summary, attends = embedding(target, width, m.letters, 0.0), summary_size(encoder), m.attention != "none"
    takes = width + (0 if attends else summary) + (m.width if m.feed else 0)
    body = body_of(m.model_copy(update={"bidirectional": False, "cell": m.decoder or m.cell}), takes, cells)
    attend = None
    if attends:
        score = make_score(m.attention, body.output_size, encoder.output_size, 0, m.attention_heads)
        attend = Attend(score, body.output_size, encoder.output_size, m.width)
    decoder = Decoder(units, body, summary, attend=attend, fixed=not attends, feed=m.feed, dropout=m.dropout)
    readout = None
    if m.tied:
        if width != decoder.output_size:
            what = f"tied vectors must be as wide as what is put out, {decoder.output_size}; they are {width} wide"
            raise ConfigError(what, hint=f"set model.embedding = {decoder.output_size}")
        readout = Tied(units.module.vectors)  # pyright: ignore[reportArgumentType]
    given = decoder.output_size, target.size
    if m.copying:
        head: Any = CopyHead(*given, t.label_smoothing, m.dropout, readout)
    else:
        head = ClassHead(*given, None, t.label_smoothing, m.dropout, matching=t.entropy_matching, readout=readout)
    return Paired(encoder, decoder, head, sampling=t.scheduled_sampling, coverage=t.coverage)


def find_cells(names: str, cells: Table | None = None) -> list[type[Recurrence]]:
    """The classes of cells, joined by "+", from the table or the user's own.

    Raises:
        ConfigError: there is none of that name.
    """
    known = {**RECURRENCES, **(cells or {})}
    if names in known:
        return [known[names]]
    several = [name.strip() for name in names.split("+")]
    for name in several:
        if name not in known:
            raise ConfigError(f"unknown cell '{name}'", hint=did_you_mean(name, known))
    return [known[name] for name in several]


def forecaster(
    stack: Stack,
    *,
    columns: int,
    targets: int,
    ahead: int,
    lag: int,
    scale_C: Tensor,
    levels: bool,
) -> Single:
    """Forecasts of the first `targets` columns, `ahead` steps, correcting a naive forecast (none at lag 0)."""
    wide = stack.output_size
    readout = nn.Linear(wide, ahead * targets)
    if lag:
        nn.init.normal_(readout.weight, std=0.1 * wide**-0.5)  # it starts near the naive forecast
    nn.init.zeros_(readout.bias)
    inner = Stack(*stack.layers, Pointwise(readout, wide, ahead * targets), dropout=stack.dropout)
    whole = Anchored(inner, columns, lag, scale_C, ahead, targets, levels) if lag else inner
    return Single(whole, ForecastHead(ahead, targets, scale_C[:targets]))
