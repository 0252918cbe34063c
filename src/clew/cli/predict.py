"""`clew evaluate`, `clew predict` and `clew generate`: a run folder and sources to figures and answers."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from clew.cli.show import print_json, print_table, print_targets, say
from clew.errors import ClewError, ConfigError
from clew.tasks import evaluate as run_evaluation
from clew.tasks import load
from clew.tasks.caption import Captioner
from clew.tasks.frames import Composer
from clew.tasks.generate import Writer
from clew.tasks.picture import draw_traces
from clew.tasks.point import Orderer
from clew.tasks.traces import Tracer
from clew.tasks.train import read_for
from clew.tasks.transcriber import Transcriber
from clew.tasks.translator import Translator
from clew.training.files import write_atomic

Run = Annotated[str, typer.Argument(help="A run folder.", metavar="RUN")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on one line.")]


def evaluate(
    run: Run,
    sources: Annotated[list[str], typer.Argument(help="Files, or sample:NAME.", metavar="SOURCE...")],
    as_json: Json = False,
) -> None:
    """Score a run on sources that hold the answers, beside the naive baselines.

    A forecast is of the last steps of each source, from all before them.
    """
    result = run_evaluation(run, sources)
    if as_json:
        print_json(result)
        return
    print_table({"model": result["metrics"], **result["baseline"]})
    print_targets(result["metrics"], result["baseline"])
    say(f"{result['task']}: {result['n']:,} scored")


def predict(
    run: Run,
    source: Annotated[str, typer.Argument(help="A file, or sample:NAME.", metavar="SOURCE")],
    out: Annotated[Path | None, typer.Option(help="Write here (.csv or .jsonl) and not to stdout.")] = None,
    horizon: Annotated[int, typer.Option(help="Steps to forecast; default: those of the run.")] = 0,
    beam: Annotated[int, typer.Option(help="Texts that are searched side by side; default: those of the run.")] = 0,
    nbest: Annotated[int, typer.Option(help="Texts to write for each source, the best first.")] = 0,
    as_json: Json = False,
) -> None:
    """Answer each record of a source, with probabilities; forecast what follows its end; or write the text for it."""
    for name, number in (("horizon", horizon), ("beam", beam), ("nbest", nbest)):
        if number < 0:
            raise ConfigError(f"--{name} must be at least 1, got {number}")
    trained = load(run)
    table = read_for(run, source)
    if isinstance(trained, Captioner | Transcriber | Translator):
        trained = trained.searching(beam=max(beam or trained.decode.beam, nbest))
        said = trained.predictions(table, horizon, nbest or 1)
    elif isinstance(trained, Orderer) and not nbest:
        trained = trained.searching(beam=beam or trained.decode.beam)
        said = trained.predictions(table)
    elif beam or nbest:
        raise ConfigError("this run writes no texts to search among", hint="leave out --beam and --nbest")
    else:
        said = trained.predictions(table, horizon)
    if as_json:
        print_json(said.short or {"columns": said.columns, "rows": said.rows})
        return
    lines = out is not None and out.suffix.lower() in (".jsonl", ".ndjson")
    text = _lines(said.columns, said.rows) if lines else _delimited(said.columns, said.rows)
    if out is None:
        print(text, end="")
    else:
        write_atomic(out, text)
        say(f"{len(said.rows):,} rows written to {out}")


def generate(
    run: Run,
    prompt: Annotated[str, typer.Option(help="What the text begins with.")] = "",
    length: Annotated[int, typer.Option(help="Units to write: characters, words, ...")] = 500,
    temperature: Annotated[
        float, typer.Option(help="Under 1 nearer to the likeliest; 0 is the likeliest itself.")
    ] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from the k likeliest alone; 0 = from all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest that together reach p.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Leave out what is less likely than this part of the likeliest.")] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed writes the same text.")] = 0,
    count: Annotated[int, typer.Option(help="Pieces to write; more than one of what is no text.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Write here: .jsonl, or .svg or .png of what is drawn with a pen.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write on from a prompt: text, or where the run is of music or drawings, a JSON list a piece."""
    writer = load(run)
    for name, number in (("length", length), ("count", count)):
        if number < 1:
            raise ConfigError(f"--{name} must be at least 1, got {number}")
    how = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    if isinstance(writer, Composer | Tracer):
        _compose(writer, prompt, length, seed, count, out, how)
        return
    if not isinstance(writer, Writer):
        raise ConfigError("this run writes nothing on", hint="train one with --task generate")
    if count > 1 or out is not None:
        raise ConfigError("--count and --out are for music and drawings", hint="leave them out, or redirect the text")
    pieces = writer.write(prompt, length=length, seed=seed, **how)
    if as_json:
        print_json({"prompt": prompt, "text": "".join(pieces)})
        return
    sys.stdout.write(prompt)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _compose(
    writer: Composer | Tracer, prompt: str, length: int, seed: int, count: int, out: Path | None, how: dict[str, float]
) -> None:
    """Pieces of music or drawings: a JSON list a line, or a picture."""
    if how["top_k"] or how["top_p"] != 1 or how["min_p"]:
        raise ConfigError("--top-k, --top-p and --min-p choose among units of text", hint="use --temperature")
    if not 0 <= how["temperature"] < float("inf"):
        raise ConfigError(f"--temperature must be a number of at least 0, got {how['temperature']}")
    if out is not None and out.suffix.lower() not in (".svg", ".png", ".jsonl", ".ndjson"):
        raise ConfigError(f"--out {out}: unknown kind of file", hint=".jsonl, or .svg or .png of what is drawn")
    picture = out is not None and out.suffix.lower() in (".svg", ".png")
    if picture and not isinstance(writer, Tracer):
        raise ConfigError("only what is drawn with a pen makes a picture", hint="--out FILE.jsonl")
    try:
        begun = json.loads(prompt) if prompt else []
        if not isinstance(begun, list):
            raise TypeError("no list")
        pieces = [
            [*begun, *writer.compose(begun, length=length, temperature=how["temperature"], seed=seed + i)]
            for i in range(count)
        ]
    except ClewError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError("--prompt is no JSON list of steps", hint="as in --prompt '[[60, 64, 67]]'") from error
    if out is not None and picture and isinstance(writer, Tracer):
        draw_traces(out, pieces, writer.flags.tolist())
    elif out is not None:
        write_atomic(out, "".join(json.dumps({"steps": piece}) + "\n" for piece in pieces))
    else:
        for piece in pieces:
            print_json({"steps": piece})
    if out is not None:
        say(f"{count:,} pieces written to {out}")


def _delimited(columns: list[str], rows: list[list]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{cell:.10g}" if isinstance(cell, float) else cell for cell in row] for row in rows)
    return text.getvalue()


def _lines(columns: list[str], rows: list[list]) -> str:
    return "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
