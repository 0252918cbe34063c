"""The keys of a recipe, their defaults and their bounds. The docstring under a key says what it means."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=0)]
AtLeastOne = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and annotation is not bool and annotation in (int, float, int | str, float | str):
            raise ValueError("input should be a number")  # Python would take true for 1
        return value


class Data(Section):
    train: str = ""
    """The sources, parted by commas."""
    valid: float | str = 0.1
    """What early stopping looks at: a fraction of the sources, another source, or the rows with COLUMN=VALUE."""
    test: float | str = 0.1
    """What is looked at once, at the end: a fraction (of a series: its last part), a source, or COLUMN=VALUE."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first row of a table names its columns."""
    target: str = ""
    """The column to predict, by name or number; empty = guessed and said."""
    targets: list[str] = []
    """The columns to predict, where there are several."""
    target_kinds: dict[str, Literal["label", "number", "numbers", "tags"]] = {}
    """What these hold, by column; else it is guessed and said."""
    inputs: list[str] = []
    """The columns that the model may see; empty = guessed (a forecast sees its target in any case)."""
    group: str = ""
    """A column whose value names the sequence that a row is a step of, where one row is one step."""
    channels: Count = 0
    """Numbers a step, where one row holds a whole sequence step by step, 0 = the row is a single step; of images, of a
    pixel, 0 = 1."""
    scan: Literal["rows", "columns", "pixels"] = "rows"
    """How a table of steps and numbers, an image, is read: its rows as they stand, its columns, or one pixel a step."""
    target_unit: Literal["auto", "byte", "character", "word", "piece", "bpe"] = "auto"
    """What a written text is cut into; auto = as `source_unit`, words as pieces."""
    source_unit: Literal["auto", "byte", "character", "word", "word+character", "piece", "bpe"] = "auto"
    """What a text is cut into; auto = by the task. A piece is a word with the space before it."""
    lowercase: bool = False
    """Whether words are looked up in lower case."""
    min_count: AtLeastOne = 1
    """How often a unit must occur in the training part to be known."""
    vocabulary: Count = 0
    """The most units that are known; 0 = no bound, or 4,096 for bpe."""
    event: str = ""
    """What the target column holds at the steps of an event; empty = the rarer of two values."""
    tolerance: Annotated[int, Field(ge=0, le=10_000)] = 2
    """Steps that an event may be found too early or too late, and that a stream waits to be sure of one."""
    mels: Annotated[int, Field(ge=1, le=512)] = 40
    """Numbers of a frame of sound: bands of frequency."""
    image: Annotated[list[AtLeastOne], Field(max_length=2)] = []
    """Height and width of an image: files are brought to it; steps of so many numbers, or that many colours, are images
    that a convolution reads one by one."""
    scale: Literal["auto", "each", "all"] = "auto"
    """Whether numbers are standardised channel by channel or all alike; auto = all for images, each for the rest."""
    keys: Annotated[int, Field(ge=0, le=4096)] = 0
    """Of music: how many keys there are; 0 = up to the highest one of the training part."""
    transpose: Annotated[int, Field(ge=0, le=127)] = 0
    """Of music: how many keys up and down each piece is learned moved by, too."""
    season: Count = 0
    """Steps in a season; 0 = found from the data."""
    horizon: Count = 0
    """Steps to forecast; 0 = one season, at most 24, or 12 where there is none."""
    anchor: Literal["auto", "season", "last", "none"] = "auto"
    """The naive forecast that the model corrects; auto = the one that is nearer in the training part."""

    @field_validator("target", "group", mode="before")
    @classmethod
    def _column(cls, value: Any) -> Any:
        return str(value) if type(value) is int else value  # a column may be counted

    @field_validator("inputs", "targets", mode="before")
    @classmethod
    def _columns(cls, value: Any) -> Any:
        value = [value] if isinstance(value, str | int) else value
        return (
            [str(name) if type(name) is int else name for name in value] if isinstance(value, list | tuple) else value
        )

    @field_validator("valid", "test")
    @classmethod
    def _part(cls, value: float | str) -> float | str:
        if isinstance(value, str) and not value:
            raise ValueError("give a fraction, a source or COLUMN=VALUE")
        if isinstance(value, float) and not 0.0 < value < 0.5:
            raise ValueError("a fraction should be greater than 0 and less than 0.5")
        return value

    @field_validator("image")
    @classmethod
    def _both_sides(cls, value: list[int]) -> list[int]:
        if len(value) == 1:
            raise ValueError("give height and width, as in image = [28, 28]")
        return value

    @model_validator(mode="after")
    def _some_left(self) -> Data:
        if sum(part for part in (self.valid, self.test) if isinstance(part, float)) >= 0.9:
            raise ValueError("valid and test together must leave more than a tenth to train on")
        return self


class Model(Section):
    cell: str = "lstm"
    """A name of `clew cells`; or several that the layers take in turn, as in "rglru+rglru+attention"."""
    width: AtLeastOne = 32
    """Units of each layer."""
    layers: Annotated[int, Field(ge=1, le=64)] = 1
    """Layers, one above the other."""
    bidirectional: bool = False
    """Whether each layer reads the future too; such a model cannot stream."""
    dropout: Fraction = 0.0
    """Probability of dropping an output between two layers."""
    residual: bool = False
    """Whether a layer adds to what it reads."""
    norm: Literal["none", "layer", "rms"] = "none"
    """Normalisation around each layer."""
    mlp: Annotated[float, Field(ge=0.0, le=16.0)] = 0.0
    """Makes every layer a block of a language model, with an MLP of so many times the width; 0 = none."""
    embedding: Count = 0
    """Numbers that stand for a unit of text; 0 = as wide as a layer, at most 128."""
    letters: AtLeastOne = 32
    """Units of the recurrence, in each direction, that reads the letters of a word (word+character)."""
    word_dropout: Fraction = 0.0
    """Probability that a unit of text is taken for the unknown one in training."""
    pooling: Literal["last", "mean", "max", "sum", "attention", "none"] = "mean"
    """How a sequence becomes one vector, for a task with one answer a sequence; none = numbers are told at each step
    (regress), as where one series drives another."""
    attention: Literal["additive", "dot", "bilinear", "scaled_dot", "multi_head", "location", "coverage", "none"] = (
        "bilinear"
    )
    """How a decoder finds its places in the source; none = it knows one vector of it."""
    attention_heads: Count = 0
    """Of multi_head; 0 = 4."""
    decoder: str = ""
    """The decoder's cell; empty = the encoder's."""
    copying: bool = False
    """Whether what stands in the source may be written as it stands, be it known or not; both share one vocabulary."""
    feed: bool = False
    """Whether a decoder reads what it put out last, and with it where it looked."""
    tied: bool = False
    """Whether a decoder's units are scored by the vectors that it reads them with."""
    subsample: Annotated[int, Field(ge=1, le=64)] = 2
    """Steps of a sound that become one step of the model."""
    crf: bool = False
    """Whether the tags of a sequence are chosen together, by which follow each other (a linear-chain CRF)."""
    components: AtLeastOne = 20
    """Of the mixture that a next step is drawn from: Gaussians of a trace, chords of music (1 = each key by itself)."""
    mode: Literal["iterative", "direct"] = "iterative"
    """Forecast one step and feed it back, or all steps at once from the last state."""
    cell_options: dict[str, bool | int | float | str | list[float]] = {}
    """The cell's own options, by name."""


class Train(Section):
    epochs: Count = 0
    """Passes over the training part."""
    steps: Count = 0
    """Updates, in place of epochs; 0 for both = the task's default."""
    minutes: Annotated[float, Field(ge=0.0)] = 0.0
    """In place of both: how long to train; some steps are timed, and how many there is time for is written down."""
    batch: AtLeastOne = 32
    """Sequences or windows in a batch; with a truncated gradient, lanes that carry their state."""
    accumulate: AtLeastOne = 1
    """Batches whose gradients make one update: the numbers of one large batch, in the memory of a small one."""
    lr: Positive = 5e-3
    """The highest learning rate."""
    warmup: Fraction = 0.05
    """The fraction of the steps over which the rate rises; then it falls as a cosine to 0."""
    clip: Annotated[float, Field(ge=0.0)] = 1.0
    """The largest norm of the gradients; 0 = no clipping."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    """AdamW's weight decay, on matrices only."""
    average: Fraction = 0.0
    """How much of a running mean of the weights each step leaves, as 0.999; it is this mean that is validated and kept.
    0 = the weights themselves."""
    patience: Count = 10
    """Stop after so many validations without a new best; 0 = never."""
    window: Count | Literal["auto"] = 0
    """Steps that a gradient reaches back (k2), the state carried on beyond them; 0 = whole sequences, auto = the
    task's usual number, or more where the data reach farther back. For a forecast: steps of a training window, 0 =
    three seasons, at least 48 and at most 192."""
    stride: Count = 0
    """Steps between two updates with a truncated gradient (k1); 0 = as many as the window has."""
    supervise: AtLeastOne | Literal["auto", "last"] = "auto"
    """The steps that have a loss: every n-th and the last, or the last alone; auto = the task's own."""
    label_smoothing: Fraction = 0.0
    """The part of the target's probability that is spread over all classes."""
    scheduled_sampling: Fraction = 0.0
    """The probability that a decoder reads its own guess in training, not the true unit."""
    coverage: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the loss for looking twice at the same place."""
    entropy_matching: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the squared difference between the entropy of predictions and that of their targets."""
    class_weights: Literal["none", "balanced"] = "none"
    """Whether rare classes count for more in the loss."""
    focal: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    """How little steps count in the loss whose events, or lack of one, are sure already (focal loss); 0 = as much."""
    set_loss: Literal["matching", "sinkhorn", "chamfer", "ordered"] = "matching"
    """How the elements of a set are compared with what was predicted; ordered = as they stand."""
    task_weights: Literal["equal", "uncertainty"] | dict[str, Positive] = "equal"
    """How much the loss of each of several targets counts, by column; uncertainty = learned beside the model."""
    mask_steps: Count = 0
    """The longest span of steps that is hidden in training, of numbers and sounds; there are two in each sequence."""
    mask_channels: Count = 0
    """The widest span of channels that is hidden in training, in the same way."""
    validate_every: Count = 0
    """Steps between validations; 0 = the task's default."""
    watch: bool = False
    """Whether the log says at each validation how far gradients reach, by layer; it takes a few hundredths longer."""
    checkpoint_every: Count = 0
    """Steps between checkpoints; 0 = at each validation."""
    threads: Count = 0
    """CPU threads; 0 = one for layers under 128 units, which more only slow down, else as torch has it."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the factors of products in training; sums, states and weights stay float32. bfloat16 is faster where there are
    tiles for it (AMX, see `clew doctor`; a GPU). What was trained runs in float32 all the same."""

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if sum(map(bool, (self.epochs, self.steps, self.minutes))) > 1:
            raise ValueError("give one of epochs, steps and minutes")
        return self

    @model_validator(mode="after")
    def _stride_of_a_window(self) -> Train:
        if self.stride and not self.window:
            raise ValueError("a stride needs a window: train.window = the steps that a gradient reaches back")
        return self


class Decode(Section):
    beam: Annotated[int, Field(ge=1, le=1000)] = 1
    """Hypotheses that are kept side by side; 1 = always the likeliest unit."""
    length_penalty: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    """How much longer texts are favoured among hypotheses: score / ((5 + length) / 6)^this."""
    coverage: Annotated[float, Field(ge=0.0)] = 0.0
    """How much hypotheses are favoured that have looked at all of the source."""
    no_repeat: Count = 0
    """Units in a row that may not stand twice in a text; 0 = any may."""
    longest: AtLeastOne = 1000
    """The most units that are written."""
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)] | Literal["auto"] = "auto"
    """The least probability of an event; auto = the one with the best f1 on the validation part."""
    language: str = ""
    """A run of --task generate that says which texts are likely, for what is transcribed."""
    language_weight: Annotated[float, Field(ge=0.0, le=10.0)] = 0.5
    """How much that counts, beside what is heard."""
    unit_bonus: Annotated[float, Field(ge=-10.0, le=10.0)] = 0.0
    """How much each unit more is favoured, against the liking of a language model for short texts."""


class Recipe(Section):
    task: str = ""
    """What to learn; empty = guessed from the file."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Everything random follows from it."""
    data: Data = Data()
    """What is read, and how it is parted."""
    model: Model = Model()
    """What is trained."""
    train: Train = Train()
    """How it is trained."""
    decode: Decode = Decode()
    """How texts are found that it gives the highest score."""


SECTIONS: dict[str, type[Section]] = {"data": Data, "model": Model, "train": Train, "decode": Decode}
