"""`clew lab`: the theory, run and drawn."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track

from clew.cli.show import Json, print_json, say
from clew.errors import ConfigError
from clew.lab import NAMES, Experiment, Outcome, experiment
from clew.report import Section, page, picture
from clew.training.files import plain, write_atomic


def lab(
    names: Annotated[list[str] | None, typer.Argument(help="Experiments, or all; none lists them.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for the figures and a page of them.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller and shorter: seconds each.")] = False,
    as_json: Json = False,
) -> None:
    """Run the theory's experiments: each claim measured, held against what it should be, and drawn."""
    if not names:
        _list(as_json)
        return
    chosen = list(NAMES) if names == ["all"] else names
    experiments = [experiment(name) for name in chosen]  # a name that is unknown is told before anything runs
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError("is a file, not a folder", file=out, hint="choose another --out")
    outcomes = []
    console = Console(stderr=True)
    torch.set_num_threads(1)  # the models are small: more threads only wait for each other
    for each in track(experiments, "running", console=console, disable=not console.is_terminal or len(experiments) < 2):
        started = time.perf_counter()
        outcomes.append((each, each.run(quick), time.perf_counter() - started))
    if out is not None:
        _write(out, outcomes)
    rows = [row for each, outcome, _ in outcomes for row in _rows(each, outcome)]
    if as_json:
        print_json({"experiments": rows})
    else:
        for each, outcome, seconds in outcomes:
            print(f"{each.CLAIM:4} {_name(each)}: {_title(each)}  ({seconds:.1f} s)")
            for f in outcome.findings:
                said = f"{f.measured:.5g}, expected {f.expected:.5g} +- {f.tolerance:.2g}"
                print(f"     {'holds ' if f.holds else 'BROKEN'}  {f.name}: {said}")
    if not all(outcome.holds for _, outcome, _ in outcomes):
        raise typer.Exit(1)


def _list(as_json: bool) -> None:
    known = [experiment(name) for name in NAMES]
    if as_json:
        print_json({"experiments": [{"name": _name(e), "claim": e.CLAIM, "says": _title(e)} for e in known]})
        return
    for each in known:
        print(f"{each.CLAIM:4} {_name(each):12} {_title(each)}")
    say("\nclew lab NAME, or all: run; --out DIR draws too")


def _write(out: Path, outcomes: list[tuple[Experiment, Outcome, float]]) -> None:
    """A figure for each, and one page of all."""
    out.mkdir(parents=True, exist_ok=True)
    sections = []
    for each, outcome, _ in outcomes:
        svg = picture(lambda figure, e=each, o=outcome: e.draw(figure, o.shown))
        write_atomic(out / f"{_name(each)}.svg", '<?xml version="1.0" encoding="utf-8"?>\n' + svg)
        rows = [(f.name, f.measured, f.expected, f.tolerance, f.holds) for f in outcome.findings]
        text = (each.__doc__ or "").partition("\n\n")[2].strip()
        head = ("what", "measured", "expected", "within", "holds")
        sections.append(Section(f"{each.CLAIM}. {_title(each)}", text, head, rows, svg))
    held = sum(outcome.holds for _, outcome, _ in outcomes)
    text = f"{held} of {len(outcomes)} claims about recurrent networks hold, as measured here."
    write_atomic(out / "index.html", page("The theory of recurrent networks, run", text, sections))
    say(f"{out / 'index.html'}")


def _rows(each: Experiment, outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {"experiment": _name(each), "claim": each.CLAIM, **plain(finding._asdict()), "holds": finding.holds}
        for finding in outcome.findings
    ]


def _name(each: Any) -> str:
    return each.__name__.rpartition(".")[2]


def _title(each: Experiment) -> str:
    return (each.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
