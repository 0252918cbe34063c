"""`clew serve`: a run on a port."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from clew.cli.predict import Run
from clew.errors import ClewError
from clew.tasks import load
from clew.tasks.run import RunFolder

NEEDS = "pip install 'clew[serve]'"


def serve(
    run: Run,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 for any that is free.", min=0, max=65535)] = 8000,
    token: Annotated[str, typer.Option(help="What every request must bring; also by CLEW_TOKEN.")] = "",
    origin: Annotated[list[str] | None, typer.Option(help="A further page that browsers may connect from.")] = None,
    streams: Annotated[int, typer.Option(help="How many streams there may be at once.")] = 1000,
    frame: Annotated[int, typer.Option(help="Bytes of a message, at most.")] = 1 << 20,
    idle: Annotated[float, typer.Option(help="Seconds after which a silent stream is closed.")] = 600.0,
    send: Annotated[float, typer.Option(help="Seconds that a reader may take to read an answer.")] = 10.0,
    sessions: Annotated[Path | None, typer.Option(help="Where open streams go; default: in the run.")] = None,
) -> None:
    """Serve predictions and streams, with a page, until Ctrl-C or SIGTERM."""
    try:
        from clew.stream.server import Limits
        from clew.stream.server import serve as run_server
    except ImportError as error:
        raise ClewError(f"a server needs {error.name}, which is not installed", hint=NEEDS) from error
    limits = Limits(
        streams=streams,
        frame=frame,
        idle=idle,
        send=send,
        token=token or os.environ.get("CLEW_TOKEN", ""),
        origins=tuple(origin or ()),
    )
    folder = sessions or Path(run) / "sessions"
    run_server(load(run), limits, host=host, port=port, task=RunFolder(run).recipe().task, folder=folder)
