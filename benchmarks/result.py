"""One line of what an issue must show, as a JSON file: figure, bar, met or not, and where it was measured."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]


def commit() -> str:
    """The commit that is measured; "+" marks changes that are not in it."""
    head = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "src")
    return head + ("+" if changed else "")


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = f"{names[0]}, {len(names)} cores" if names else model
    return f"{model}, {platform.system()}, python {platform.python_version()}"


def write(
    name: str, line: str, *, seeds: list[int], figure: Any, bar: str, met: bool, measured: str, **more: Any
) -> None:
    """Write `results/NAME.json`; `measured` is the `commit()` from before the measurement began."""
    file = ROOT / "results" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    where = {"commit": measured, "machine": machine(), "torch": torch.__version__}
    content = {"line": line, **where, "seeds": seeds, "figure": figure, "bar": bar, "met": met, **more}
    file.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{file.relative_to(ROOT)}: {'met' if met else 'NOT met'}")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
