"""`clew cells` and `clew doctor`, and how the command line prints."""

from __future__ import annotations

import inspect
import json
import platform
from typing import Annotated, Any

import torch
import typer

from clew import tree
from clew.cells import RECURRENCES
from clew.diagnose import tuning
from clew.diagnose.laws import check
from clew.errors import ClewError
from clew.ops import triton
from clew.ops.native import native_info
from clew.ops.triton import tiles, trust
from clew.tasks.base import say

__all__ = ["cells", "doctor", "print_json", "print_table", "say"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line.")]


def cells(as_json: Json = False) -> None:
    """List the recurrences: name, paper, parameters and state of a cell 64 wide, options."""
    rows = []
    for name, kind in RECURRENCES.items():
        cell = kind(64, 64)
        options = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
        parameters = sum(p.numel() for p in cell.parameters())
        floats = sum(leaf.numel() for leaf in tree.leaves(cell.init_state(1)))
        rows.append({"name": name, "cite": kind.cite, "parameters": parameters, "state": floats, "options": options})
    if as_json:
        print_json({"cells": rows})
        return
    print("Parameters and numbers of state are those of a cell with 64 inputs and 64 units.\n")
    wide = max(len(row["name"]) for row in rows)
    for row in rows:
        print(f"{row['name']:{wide}} {row['parameters']:>7,} parameters, state {row['state']:>6,}   {row['cite']}")
        print(f"{'':{wide}} options: {', '.join(row['options'])}")


def doctor(
    as_json: Json = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Measure which kernels and tiles are fastest on this GPU, and keep that.")
    ] = False,
) -> None:
    """Try the laws of every recurrence on this machine, and say what is missing and what that costs."""
    if tune:
        _tune()
    native = native_info()
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "compiled": native,
        "kernels": _kernels(),
        "laws": {},
    }
    for name, kind in RECURRENCES.items():
        report["laws"][name] = {law.law: law.holds for law in check(kind(5, 8))}
    report["holds"] = all(all(laws.values()) for laws in report["laws"].values())
    if as_json:
        print_json(report)
    else:
        print(f"python {report['python']}, torch {report['torch']}, {report['threads']} threads")
        print(f"GPU: {report['gpu'] or 'none found; everything runs on the CPU'}")
        if report["kernels"] is not None:
            refused = [name for name, holds in report["kernels"].items() if not holds]
            print(f"kernels of the GPU: {', '.join(refused) + ' NOT used' if refused else 'all are right'}")
        elif report["gpu"]:
            print("kernels of the GPU: none, so that modern recurrences run slower there: pip install 'clew[gpu]'")
        print(f"compiled part: {_built(native)}")
        for name, laws in report["laws"].items():
            broken = [law for law, holds in laws.items() if not holds]
            print(f"{name:8} {f'BROKEN: {chr(44).join(broken)}' if broken else f'all {len(laws)} laws hold'}")
    if not report["holds"]:
        raise typer.Exit(1)


def _kernels() -> dict[str, bool] | None:
    """Whether each kernel says on this GPU what its definition says; None where there are none."""
    if not torch.cuda.is_available() or not triton.installed():
        return None
    return trust.laws(torch.device("cuda", torch.cuda.current_device()))


def _tune() -> None:
    """Minutes of measuring; said on stderr, as what `doctor` finds is on stdout."""
    if not torch.cuda.is_available():
        raise ClewError("there is no GPU to tune for", hint="without --tune doctor says what this machine has")
    if not triton.installed():
        raise ClewError("there is no Triton to tune", hint="pip install 'clew[gpu]'")
    device = torch.device("cuda", torch.cuda.current_device())
    found = tuning.tune(device, say)
    say(f"kept in {tiles.keep(tiles.name_of(device), found)}")


def _built(native: dict[str, Any] | None) -> str:
    """What the compiled part is, or what its absence costs."""
    if not native:
        return "not built: GRU and RNN train 2-20x slower, and there is no Stepper; install a C++ compiler"
    rounds = ", bfloat16 tiles" if native["bfloat16"] else ""
    return f"{native['instruction_set']}{rounds}, by {native['compiler']}"


def print_json(value: Any) -> None:
    """One object on one line, flushed, so that a reader gets it at once."""
    print(json.dumps(value), flush=True)


def print_table(rows: dict[str, dict[str, float]]) -> None:
    """Rows of metrics, aligned, in plain text that a narrow terminal takes; those of single targets are left out."""
    wide = max(len(name) for name in rows)
    names = [name for name in next(iter(rows.values())) if "." not in name]
    print(" " * wide, *(f"{name:>9}" for name in names))
    for label, metrics in rows.items():
        print(f"{label:{wide}}", *(f"{metrics[name]:>9.4g}" if name in metrics else " " * 9 for name in names))


def print_targets(metrics: dict[str, float], baselines: dict[str, dict[str, float]]) -> None:
    """The metrics of each of several targets, beside those of the naive baseline."""
    naive = next(iter(baselines.values()), {})
    by_target: dict[str, list[str]] = {}
    for name, value in metrics.items():
        target, dot, metric = name.rpartition(".")
        if dot:
            beside = f" ({naive[name]:.4g})" if name in naive else ""
            by_target.setdefault(target, []).append(f"{metric} {value:.4g}{beside}")
    for target, said in by_target.items():
        print(f"  {target}: {', '.join(said)}")
    if by_target:
        print("  in brackets what the naive baseline has")
