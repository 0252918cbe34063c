"""`clew export`: a run to files that other programs run, with a certificate that they say what the model says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from clew.cli.predict import Json, Run
from clew.cli.show import print_json, say
from clew.errors import ConfigError, did_you_mean
from clew.stream.export import KINDS, export_run
from clew.training.files import write_atomic


def export(
    run: Run,
    source: Annotated[
        str | None,
        typer.Argument(help="What to compare on: a file, or sample:NAME; default: that of the run.", metavar="SOURCE"),
    ] = None,
    to: Annotated[str, typer.Option(help=f"What to write: {' or '.join(KINDS)}.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="The folder; default: the kind's name in the run.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Keep weights in a quarter of the bytes.")] = False,
    worse: Annotated[float, typer.Option(help="How much worse a metric may get by --int8, as a part of it.")] = 0.01,
    name: Annotated[str, typer.Option(help="Of the files, and in C of the functions.")] = "model",
    as_json: Json = False,
) -> None:
    """Write a model for other programs, and compare it with the model itself on real steps."""
    if to not in KINDS:
        raise ConfigError(f"--to: unknown kind '{to}'", hint=did_you_mean(to, KINDS))
    if not worse >= 0:
        raise ConfigError(f"--worse must be a part of a metric of at least 0, got {worse}")
    folder = out or Path(run) / to
    if folder.exists() and not folder.is_dir():
        raise ConfigError("is a file, not a folder", file=folder, hint="choose another --out")
    files, certificate = export_run(run, source, to=to, int8=int8, worse=worse, name=name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot be made: {error.strerror}", file=folder, hint="choose another --out") from error
    for file, content in {**files, "certificate.json": json.dumps(certificate, indent=1) + "\n"}.items():
        write_atomic(folder / file, content)
    if as_json:
        print_json(certificate)
        return
    sizes = ", ".join(f"{what} {number:,}" for what, number in certificate["bytes"].items())
    print(f"bytes: {sizes}")
    if certificate["difference"] is None:
        print(f"not compared: {certificate['why']}")
    else:
        steps, difference = certificate["steps"], certificate["difference"]
        print(f"compared on {steps:,} steps of {certificate['on']}: {difference:.1e} of an answer's size at most")
    for metric, own in certificate.get("metrics", {}).get("model", {}).items():
        print(f"{metric}: {own:.4g}, exported {certificate['metrics']['exported'][metric]:.4g}")
    say(", ".join(str(folder / file) for file in [*files, "certificate.json"]))
