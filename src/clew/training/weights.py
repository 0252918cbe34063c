"""Named tensors and a little JSON in one safetensors file, with a checksum over every byte; no pickle."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from clew.errors import RunError
from clew.training.files import write_atomic

_KEY = b'sha256\\": \\"'  # as it stands in the header: JSON inside a JSON string
_EMPTY = b"0" * 64
# What a malformed file makes safetensors and torch raise.
_DAMAGE = (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError, AttributeError, MemoryError)


def save_weights(path: str | os.PathLike[str], module: nn.Module) -> None:
    """Write `module.state_dict()` as safetensors, readable by any safetensors library; tied weights are written twice.

    Raises:
        RunError: the file cannot be written; an older file is as it was.
    """
    write_atomic(path, pack(module.state_dict(), {}))


def load_weights(path: str | os.PathLike[str], module: nn.Module) -> None:
    """Read weights into `module`, in place; names and shapes must be exactly the module's, dtypes are converted.

    Raises:
        RunError: the file is missing or damaged, or does not fit; then the module is as it was.
    """
    fill(module, unpack(path)[0], path)


def fill(module: nn.Module, tensors: dict[str, Tensor], file: object = None) -> None:
    """Strictly load a state_dict. Raises RunError naming what is missing, unexpected or of another shape."""
    own = module.state_dict()
    shapes = [
        f"'{name}' is {tuple(tensors[name].shape)}, the model's is {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    wrong = [
        f"{what}: {_some(names)}"
        for what, names in [
            ("missing", [f"'{name}'" for name in own if name not in tensors]),
            ("unexpected", [f"'{name}'" for name in sorted(tensors) if name not in own]),
            ("wrong shape", shapes),
        ]
        if names
    ]
    if wrong:
        hint = "these weights belong to a model with other options"
        raise RunError(f"does not fit the model; {'; '.join(wrong)}", file=file, hint=hint)
    module.load_state_dict(tensors)


def pack(tensors: dict[str, Tensor], meta: dict[str, Any]) -> bytes:
    """The bytes of a safetensors file. Tensors may share memory, be strided, empty, or on any device."""
    # safetensors refuses shared memory and strides, hence the clone.
    plain = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    # One metadata key: safetensors writes several in random order, and equal runs should give equal files.
    content = safetensors.torch.save(plain, {"clew": json.dumps({"sha256": _EMPTY.decode(), **meta})})
    return content.replace(_KEY + _EMPTY, _KEY + hashlib.sha256(content).hexdigest().encode(), 1)


def unpack(path: str | os.PathLike[str], checked: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the meta of a safetensors file.

    Args:
        checked: there must be a checksum; a file of another program has none, and no meta.

    Raises:
        RunError: the file is missing, cannot be read, or is damaged.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise RunError("is missing", file=path, hint="is this the folder of a run?") from error
    except OSError as error:
        raise RunError(f"cannot be read: {error.strerror or error}", file=path) from error
    return unpack_bytes(content, checked, path, "restore it from a copy, or train again")


def unpack_bytes(
    content: bytes, checked: bool = False, file: object = None, hint: str | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same of what such a file holds. Raises RunError, naming `file`, where it is damaged."""
    try:
        tensors = safetensors.torch.load(content)  # first: it bounds the header before anything here looks at it
        end = 8 + int.from_bytes(content[:8], "little")
        header = content[:end]
        meta = json.loads(json.loads(header[8:]).get("__metadata__", {}).get("clew", "{}"))
        digest = meta.pop("sha256", "")
        if digest or checked:
            check = hashlib.sha256(header.replace(_KEY + digest.encode(), _KEY + _EMPTY, 1))
            check.update(memoryview(content)[end:])
            if check.hexdigest() != digest:
                raise ValueError("its checksum does not hold")
    except _DAMAGE as error:
        reason = str(error).split("\n")[0] or type(error).__name__
        raise RunError(f"is damaged: {reason}", file=file, hint=hint) from error
    return tensors, meta


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
