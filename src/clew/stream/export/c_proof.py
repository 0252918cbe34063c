"""The proof that a C source says what the model says: it is compiled, fed with real steps, and compared."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clew.errors import ClewError
from clew.stream.export.c import CSource

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2")


def compiler() -> str | None:
    """gcc, or what there is in its place."""
    return shutil.which("gcc") or shutil.which("cc")


def compiled(source: CSource, folder: Path, flags: Sequence[str] = STRICT) -> Path:
    """The program that reads lines of numbers. Raises ClewError with what the compiler said."""
    found = compiler()
    if found is None:
        raise ClewError("no C compiler was found", hint="install gcc")
    source.save(folder)
    files = [name for name in source.files if name.endswith(".c")]
    _run(folder, [found, *flags, *files, "-o", "main", "-lm"])
    return folder / "main"


def _run(folder: Path, command: list[str]) -> None:
    """Raises ClewError where the compiler refuses."""
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if said.returncode:
        first = next((line for line in said.stderr.splitlines() if "error:" in line), said.stderr.strip()[:200])
        what = f"the exported C does not compile: {first.partition('error: ')[2] or first}"
        raise ClewError(what, hint="a --name that the C library has is none; else please report this")


def answered(program: Path, x_TI: np.ndarray) -> np.ndarray:
    """What the program writes, (T, O)."""
    lines = "".join(",".join(map(repr, row)) + "\n" for row in x_TI.astype(np.float64).tolist())
    said = subprocess.run([program], input=lines, capture_output=True, text=True)
    if said.returncode:
        raise ClewError(f"the exported program stopped: {said.stderr.strip()}")
    return np.array([[float(v) for v in line.split(",")] for line in said.stdout.split()], dtype=np.float32)


def answers(source: CSource, xs: Sequence[np.ndarray], flags: Sequence[str] = STRICT) -> list[np.ndarray]:
    """What a source answers to sequences (T, I), (T, O) each. Raises ClewError where it cannot be built."""
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(source, Path(folder), flags)
        return [answered(program, x_TI) for x_TI in xs]


def code_size(source: CSource) -> int:
    """The bytes of machine code, without the weights; 0 where nothing here can tell."""
    found, size = compiler(), shutil.which("size")
    if found is None or size is None:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        source.save(Path(folder))
        name = next(file for file in source.files if file.endswith(".c") and file != "main.c")
        _run(Path(folder), [found, "-std=c99", "-Os", "-c", name, "-o", "a.o"])
        said = subprocess.run([size, "a.o"], cwd=folder, check=True, capture_output=True, text=True).stdout
    return max(0, int(said.splitlines()[1].split()[0]) - source.weights)


def version() -> dict[str, Any]:
    """What it was compiled with."""
    found = compiler()
    assert found is not None
    said = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    return {"compiler": said.splitlines()[0], "flags": " ".join(STRICT)}
