"""The compiled part, which may be absent: without it everything works, only slower."""

from __future__ import annotations

import importlib
from typing import Any


def native_info() -> dict[str, Any] | None:
    """How the compiled part was built (compiler, instruction set), or None where it is missing."""
    try:
        module = importlib.import_module("clew.ops._native")
    except ImportError:
        return None
    return dict(module.build_info())
