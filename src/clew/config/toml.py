"""Recipes as TOML: the text of a file to tables, and a recipe back to text."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from clew.errors import ConfigError


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


def dump(recipe: BaseModel) -> str:
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


def value(text: str) -> Any:
    """A TOML value; what is none is a string, so that text needs no quotes on a command line."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _neighbours(path: Path) -> list[str]:
    return [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
