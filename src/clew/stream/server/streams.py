"""The websockets of a server: a line in, an answer out, for as long as both sides go on."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from clew.errors import ClewError, DataError, said
from clew.stream.batcher import FullError
from clew.stream.server.hub import Hub
from clew.stream.server.limits import Limits
from clew.stream.server.patience import POLICY, Connection, Patience
from clew.stream.server.watching import Watch

LATER = 1013  # the code of a websocket that is closed as there are too many


class Streams:
    """An ASGI application: what Starlette wraps around each message costs as much as a step of a small model.

    Args:
        host: the address that the server listens on.
    """

    def __init__(self, hub: Hub, limits: Limits, host: str) -> None:
        self._hub, self._limits, self._host, self._patience = hub, limits, host, Patience(limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hub, limits, socket = self._hub, self._limits, WebSocket(scope, receive, send)
        trusted = limits.trusts(socket.headers, self._host)
        if not trusted or not limits.admits(socket.headers, socket.query_params):
            hub.refused.labels("token" if trusted else "origin").inc()
            await socket.close(POLICY)
            return
        await socket.accept()
        try:
            stream, name = hub.join(socket.query_params.get("session", ""))
        except ClewError as error:
            full = isinstance(error, FullError)
            hub.refused.labels("full" if full else "session").inc()
            await socket.send_text(as_text(said(error)))
            await socket.close(LATER if full else POLICY)
            return
        watch, mine = Watch(hub, stream), Connection(socket)
        try:
            with self._patience.with_(mine):
                await self._talk(mine, watch, {"session": name, "steps": hub.batcher.steps(stream)}, receive, send)
        except asyncio.CancelledError:
            if not mine.over:
                raise
        finally:
            if mine.over:
                hub.refused.labels("silent or slow").inc()
            watch.close()
            hub.leave(stream, name)

    async def _talk(self, mine: Connection, watch: Watch, answer: Any, receive: Receive, send: Send) -> None:
        """Until the other side has gone."""
        limits = self._limits
        while True:
            mine.waits(limits.send, reading=True)
            try:
                await send({"type": "websocket.send", "text": as_text(answer)})
            except (OSError, RuntimeError):  # it has gone, or has been closed
                return
            mine.waits(limits.idle)
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            line = message.get("text") or message.get("bytes") or ""  # JSON either way
            mine.waits(math.inf)
            try:
                answer = await watch.answer(_read(line), len(line))
            except ClewError as error:
                self._hub.refused.labels("line").inc()
                answer = said(error)


def _read(line: str | bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        what = "the line is not JSON"
        raise DataError(what, hint="a number, a list or an object; there is no NaN in JSON") from error


def as_text(answer: Any) -> str:
    """As JSON, in which NaN is null."""
    return orjson.dumps(answer).decode()
