"""Summarise: a long text in, a short one out. It is `translate` with words that may be copied as they stand."""

from __future__ import annotations

from typing import Any

from clew.tasks.translate import DEFAULTS as TRANSLATE
from clew.tasks.translate import UNUSED, prepare, restore

__all__ = ["DEFAULTS", "UNUSED", "prepare", "restore"]

DEFAULTS: dict[str, dict[str, Any]] = {
    **TRANSLATE,
    "data": {"vocabulary": 20_000},
    "model": {**TRANSLATE["model"], "attention": "additive", "copying": True},
    "decode": {"beam": 4, "no_repeat": 3},
}
