"""What a recipe may say. Every key has a default; an unknown one is an error with the nearest right name.

A recipe is TOML: `task` and `seed`, then the tables [data], [model], [train] and [decode].
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from clew.config.sections import SECTIONS, Data, Decode, Model, Recipe, Section, Train
from clew.config.toml import dump, load_recipe, value
from clew.errors import ConfigError, did_you_mean

__all__ = ["SECTIONS", "Data", "Decode", "Model", "Recipe", "Train", "build", "dump", "load_recipe"]
LENGTHS = ("epochs", "steps", "minutes")  # of a training: a task's own default stands where none of them is said


def build(
    recipe: dict[str, Any],
    overrides: Sequence[str] = (),
    file: object = None,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> Recipe:
    """A checked recipe from tables and `KEY=VALUE` overrides, whose keys are dotted or, where only one section has
    them, bare.

    Args:
        defaults: what stands, by section, where neither table nor override says anything: a task's own defaults.

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
            table[name] = value(text.strip())
    for section, keys in (defaults or {}).items():
        table = raw.setdefault(section, {})
        if isinstance(table, dict):
            for name, default in keys.items():
                if name not in LENGTHS:
                    table.setdefault(name, default)
                elif not any(table.get(length) for length in LENGTHS):
                    table[name] = default
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise _first(error, file) from error


def _place(key: str) -> list[str]:
    """The sections and the name of a key; a bare one is looked up in the sections."""
    if "." in key:
        key = f"model.{key}" if key.startswith("cell_options.") else key
        return key.split(".", 2) if key.startswith("model.cell_options.") else key.split(".", 1)
    homes = [section for section, kind in SECTIONS.items() if key in kind.model_fields]
    return [homes[0], key] if len(homes) == 1 and key not in ("task", "seed") else [key]


def _first(error: ValidationError, file: object) -> ConfigError:
    """The first complaint, in the user's terms."""
    complaint = error.errors()[0]
    place = [str(part) for part in complaint["loc"]] or [""]
    option = place[:2] == ["model", "cell_options"] and len(place) > 3  # [3:] is the kind that pydantic tried first
    key = ".".join(place[:3] if option else place[:2] if place[0] in SECTIONS else place[:1])
    if complaint["type"] == "extra_forbidden":
        return ConfigError(f"unknown key '{key}'", file=file, hint=_nearest(place))
    what = complaint["msg"].removeprefix("Value error, ")
    what = "should be true or false, a number, text or a list of numbers" if option else what
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
