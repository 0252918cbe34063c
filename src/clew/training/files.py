"""Writing a file so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from pathlib import Path
from typing import Any

from clew.errors import RunError

# Some file systems cannot sync a folder; there is nothing better to do there.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


def temporary(path: Path) -> Path:
    """Where `write_atomic` writes before it renames: in the same folder, since a rename cannot cross file systems."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_atomic(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a whole file, or leave the old one as it is; once this returns, the file survives a power cut.

    Raises:
        RunError: the disk is full, the folder is missing or may not be written. No temporary file is left.
    """
    path = Path(path)
    temp = temporary(path)
    try:
        try:
            with open(temp, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temp, path)
        except BaseException:  # Ctrl-C too
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> RunError:
    """The typed error for a failed write, with a hint that fits the cause."""
    reason = error.strerror or str(error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = "make room on this disk, or write elsewhere" if full else "check that the folder exists and may be written"
    return RunError(f"cannot be written: {reason}", file=path, hint=hint)


def plain(value: Any) -> Any:
    """The same as JSON has it, which knows no NaN and no infinity: null."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file.

    Raises:
        RunError: the file is missing, cannot be read, or is no JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise RunError("is missing", file=path, hint="is this the folder of a run?") from error
    except OSError as error:
        raise RunError(f"cannot be read: {error.strerror or error}", file=path) from error
    except (ValueError, RecursionError) as error:  # deep nesting ends in a RecursionError
        raise RunError(f"is damaged: no JSON ({error})", file=path, hint="restore it, or train again") from error


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable: a file's new name lives in its folder."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)
