"""A folder of `step-000000123.safetensors`, the newest two.

A file is replaced as a whole or not at all (`files.write_atomic`), and damage that comes later (a bit flip, a
truncation) is found by the checksum and skipped.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from clew.errors import RunError
from clew.training.files import write_atomic
from clew.training.weights import load_weights, pack, save_weights, unpack

__all__ = ["Checkpoint", "clear", "load_weights", "newest", "save", "save_weights"]

_NAME = re.compile(r"step-(\d{9,})\.safetensors")


class Checkpoint(NamedTuple):
    """What `save` was given."""

    step: int
    tensors: dict[str, Tensor]
    meta: dict[str, Any]


def save(folder: Path, step: int, tensors: dict[str, Tensor], meta: dict[str, Any], keep: int = 2) -> Path:
    """Write a checkpoint, then delete all but the newest `keep` and what a killed save left.

    Checkpoints of later steps go too: they are damaged, or of a run that was begun anew.

    Raises:
        RunError: the file cannot be written; the older checkpoints are as they were.
    """
    path = folder / f"step-{step:09d}.safetensors"
    _delete(folder.glob(".step-*.tmp"))  # before writing: they may be what fills the disk
    write_atomic(path, pack(tensors, {"step": step, "meta": meta}))
    older = [file for number, file in _found(folder) if number <= step]
    _delete(file for _, file in _found(folder) if file not in older[:keep])
    return path


def newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is complete and whose checksum holds, and a sentence for each damaged one skipped."""
    skipped = []
    for step, path in _found(folder):
        try:
            tensors, saved = unpack(path, checked=True)
            if saved.get("step") != step or not isinstance(saved.get("meta"), dict):
                raise RunError("is no checkpoint of this step", file=path)
            return Checkpoint(step, tensors, saved["meta"]), skipped
        except RunError as error:
            skipped.append(f"{path.name} {error.what}")
    return None, skipped


def clear(folder: Path) -> None:
    """Delete every checkpoint: a run that starts from scratch must not be resumed from an older one."""
    _delete(path for _, path in _found(folder))
    _delete(folder.glob(".step-*.tmp"))


def _found(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoints by step, newest first."""
    matches = [(_NAME.fullmatch(path.name), path) for path in folder.glob("step-*.safetensors")]
    return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # what cannot be deleted costs room, not correctness
            path.unlink()
