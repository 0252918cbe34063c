"""What a recipe may say. Every key has a default; an unknown one is an error with the nearest right name.

A recipe is TOML: `task` and `seed`, then the tables [data], [model] and [train].
"""

from __future__ import annotations

import copy
import difflib
import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from clew.errors import ConfigError, did_you_mean

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation in (int, float):
            raise ValueError("input should be a number")  # Python would take true for 1
        return value


class Data(Section):
    train: str = ""
    """The sources, parted by commas."""
    target: str = ""
    """The column to predict; empty = the last numeric one."""
    inputs: list[str] = []
    """Further columns that the model may see."""
    valid: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    """The part of each series that early stopping looks at; it stands before the test part."""
    test: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    """The last part of each series, looked at once, at the end."""
    season: Count = 0
    """Steps in a season; 0 = found from the data."""
    horizon: Count = 0
    """Steps to forecast; 0 = one season, at most 24, or 12 where there is none."""
    anchor: Literal["auto", "season", "last", "none"] = "auto"
    """The naive forecast that the model corrects; auto = the one that is nearer in the training part."""

    @field_validator("target", mode="before")
    @classmethod
    def _column(cls, value: Any) -> Any:
        return str(value) if type(value) is int else value  # a column may be counted

    @field_validator("inputs", mode="before")
    @classmethod
    def _columns(cls, value: Any) -> Any:
        value = [value] if isinstance(value, str | int) else value
        return (
            [str(name) if type(name) is int else name for name in value] if isinstance(value, list | tuple) else value
        )

    @model_validator(mode="after")
    def _some_left(self) -> Data:
        if self.valid + self.test >= 0.9:
            raise ValueError("valid and test together must leave more than a tenth to train on")
        return self


class Model(Section):
    cell: str = "lstm"
    """A name of `clew cells`."""
    width: Annotated[int, Field(ge=1)] = 32
    """Units of each layer."""
    layers: Annotated[int, Field(ge=1, le=64)] = 1
    """Layers, one above the other."""
    dropout: Fraction = 0.0
    """Probability of dropping an output between two layers."""
    residual: bool = False
    """Whether a layer adds to what it reads."""
    norm: Literal["none", "layer", "rms"] = "none"
    """Normalisation around each layer."""
    mode: Literal["iterative", "direct"] = "iterative"
    """Forecast one step and feed it back, or all steps at once from the last state."""
    cell_options: dict[str, bool | int | float | str] = {}
    """The cell's own options, by name."""


class Train(Section):
    epochs: Count = 0
    """Passes over the training part."""
    steps: Count = 0
    """Updates, in place of epochs; 0 for both = the task's default."""
    batch: Annotated[int, Field(ge=1)] = 32
    """Windows in a batch."""
    lr: Annotated[float, Field(gt=0.0)] = 5e-3
    """The highest learning rate."""
    warmup: Fraction = 0.05
    """The fraction of the steps over which the rate rises; then it falls as a cosine to 0."""
    clip: Annotated[float, Field(ge=0.0)] = 1.0
    """The largest norm of the gradients; 0 = no clipping."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    """AdamW's weight decay, on matrices only."""
    patience: Count = 10
    """Stop after so many validations without a new best; 0 = never."""
    window: Count = 0
    """Steps of a training window; 0 = three seasons, at least 48 and at most 192."""
    validate_every: Count = 0
    """Steps between validations; 0 = the task's default."""
    checkpoint_every: Count = 0
    """Steps between checkpoints; 0 = at each validation."""
    threads: Count = 0
    """CPU threads; 0 = one for layers under 128 units, which more only slow down, else as torch has it."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if self.epochs and self.steps:
            raise ValueError("give epochs or steps, not both")
        return self


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


SECTIONS: dict[str, type[Section]] = {"data": Data, "model": Model, "train": Train}


def load_recipe(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: it cannot be read, or is not TOML (with the row).
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        near = difflib.get_close_matches(Path(path).name, _neighbours(Path(path)), n=1)
        raise ConfigError("no such file", file=path, hint=f"did you mean '{near[0]}'?" if near else None) from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8 text", file=path, hint="save it as UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+)", str(error))
        what = re.sub(r" \(at .*\)$", "", str(error))
        raise ConfigError(
            f"not TOML: {what}",
            file=path,
            row=int(found[1]) if found else None,
            hint='text stands in quotes: key = "text"',
        ) from error


def build(recipe: dict[str, Any], overrides: Sequence[str] = (), file: object = None) -> Recipe:
    """A checked recipe from tables and `KEY=VALUE` overrides, whose keys are dotted or, where only one section has
    them, bare.

    Raises:
        ConfigError: an unknown key, a value of another kind or out of bounds.
    """
    raw = copy.deepcopy(recipe)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}' is not KEY=VALUE", hint="--set train.lr=1e-3")
        *sections, name = _place(key.strip())
        table: Any = raw
        for section in sections:
            table = table.setdefault(section, {}) if isinstance(table, dict) else table
        if isinstance(table, dict):  # else the check below names the key that should be one
            table[name] = _value(text.strip())
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise _first(error, file) from error


def dump(recipe: Recipe) -> str:
    """The recipe as TOML that `load_recipe` and `build` turn back into an equal one."""
    lines, tables = [], []
    for key, value in recipe.model_dump().items():
        if isinstance(value, dict):
            tables.append(f"\n[{key}]")
            tables.extend(f"{name} = {_toml(part)}" for name, part in value.items())
        else:
            lines.append(f"{key} = {_toml(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ConfigError(f"{value!r} holds bytes that are not text", hint="rename the file or the column")
    # JSON's strings and numbers are TOML's, but for DEL, and for letters that JSON escapes as surrogates.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(text: str) -> Any:
    """A TOML value; what is none is a string, so that text needs no quotes on a command line."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _place(key: str) -> list[str]:
    """The sections and the name of a key; a bare one is looked up in the sections."""
    if "." in key:
        return key.split(".", 2) if key.startswith("model.cell_options.") else key.split(".", 1)
    homes = [section for section, kind in SECTIONS.items() if key in kind.model_fields]
    return [homes[0], key] if len(homes) == 1 and key not in ("task", "seed") else [key]


def _first(error: ValidationError, file: object) -> ConfigError:
    """The first complaint, in the user's terms."""
    complaint = error.errors()[0]
    place = [str(part) for part in complaint["loc"]]
    option = place[:2] == ["model", "cell_options"] and len(place) > 3  # [3:] is the kind that pydantic tried first
    key = ".".join(place[:3] if option else place)
    if complaint["type"] == "extra_forbidden":
        return ConfigError(f"unknown key '{key}'", file=file, hint=_nearest(place))
    what = complaint["msg"].removeprefix("Value error, ")
    what = "should be true or false, a number or text" if option else what
    what = "should be a table" if complaint["type"] == "model_type" else what[0].lower() + what[1:]
    given = "" if isinstance(complaint["input"], dict | Section) else f" (got {complaint['input']!r})"
    return ConfigError(f"{key or 'recipe'}: {what}{given}", file=file)


def _nearest(place: list[str]) -> str:
    """A hint: the key of that name in another section, or else the one that is spelt most alike."""
    *sections, name = place
    kind = SECTIONS.get(sections[0]) if sections else None
    homes = [f"{section}.{name}" for section, other in SECTIONS.items() if name in other.model_fields]
    near = difflib.get_close_matches(name, kind.model_fields if kind else [], n=1)
    if homes and not near:
        return f"did you mean '{homes[0]}'?"
    if kind:
        return did_you_mean(name, kind.model_fields)
    return did_you_mean(
        name, ["task", "seed", *SECTIONS, *(n for other in SECTIONS.values() for n in other.model_fields)]
    )


def _neighbours(path: Path) -> list[str]:
    return [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
