"""Runs a server until it is told to end; streams that are open then are kept for the next one."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from types import FrameType

import uvicorn

from clew.errors import ClewError, ConfigError
from clew.stream.engine import engine_of
from clew.stream.server.app import make_app
from clew.stream.server.hub import Hub
from clew.stream.server.limits import Limits
from clew.tasks.base import Streamed, say
from clew.training.files import write_atomic

UNREAD = 1 << 17  # bytes of answers that the system holds for a connection: what a slow reader may cost


class Server(uvicorn.Server):
    """Says to the hub that it ends before it closes the connections, so that their streams are kept."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self.hub = hub

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            super().run(sockets)
        finally:
            self.hub.close()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.hub.draining = True
        self.force_exit = self.should_exit  # a second signal does not wait
        self.should_exit = True  # as one that was asked to end, and did: uvicorn's own handler would end by the signal


def serve(
    trained: Streamed,
    limits: Limits = Limits(),
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    task: str = "",
    folder: Path | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        port: 0 for any that is free.
        folder: where streams are kept between two servers.

    Raises:
        ConfigError: the port is taken, or open to others without a token.
        NotCausalError: the model needs the future.
    """
    if folder is not None:
        _writable(folder)
    server, bound = prepared(trained, limits, host=host, port=port, task=task, folder=folder)
    shown = f"[{host}]" if ":" in host else host
    say(f"http://{shown}:{bound.getsockname()[1]}/ (Ctrl-C ends it)")
    try:
        server.run([bound])
    finally:
        engine_of(trained).ended = True


def prepared(
    trained: Streamed, limits: Limits, *, host: str, port: int, task: str, folder: Path | None
) -> tuple[Server, socket.socket]:
    """A server that does not run yet, and what it listens on: `server.run([socket])`. See `serve`."""
    limits.check(host)
    app = make_app(trained, limits, task=task, folder=folder, host=host)
    config = uvicorn.Config(
        app,
        log_level="warning",
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=limits.frame,
        ws_per_message_deflate=False,  # its buffers are larger than a stream's state
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        timeout_graceful_shutdown=int(limits.drain),
        limit_concurrency=limits.streams + 100,
        server_header=False,
    )
    return Server(config, app.state.hub), _bound(host, port)


def _writable(folder: Path) -> None:
    """Raises ConfigError where no stream could be kept: better now than when the server ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / ".writable", b"")
        (folder / ".writable").unlink()
    except (OSError, ClewError) as error:
        why = error.what if isinstance(error, ClewError) else f"cannot be made: {error.strerror}"
        raise ConfigError(
            f"streams cannot be kept here: {why}", file=folder, hint="choose another --sessions"
        ) from error


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD)
        found.bind((host, port))
        found.listen(2048)  # from the moment that its address is said
    except OSError as error:
        found.close()
        reason = error.strerror or str(error)
        hint = "choose another --port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "choose another --host"
        raise ConfigError(f"{host}:{port} cannot be listened on: {reason}", hint=hint) from error
    return found
