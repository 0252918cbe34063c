"""Ends connections that say nothing, or do not read: one look at all of them now and then costs less than a timer for
each line."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.websockets import WebSocket

from clew.stream.server.limits import Limits

LOOKS = 4  # in the shortest of the times that are allowed
OFTEN = 0.5  # seconds between two looks, at most
POLICY = 1008  # the code of a websocket that is closed for what the other side does


class Connection:
    """What one connection waits for, and since when."""

    __slots__ = ("_clock", "allowed", "over", "reading", "since", "socket", "task")

    def __init__(self, socket: WebSocket) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        self.socket, self.task, self.over, self.reading = socket, task, False, False
        self.since = self.allowed = math.inf
        self._clock = asyncio.get_running_loop().time

    def waits(self, allowed: float, reading: bool = False) -> None:
        """For the other side to read, or to say something; for neither where it is infinite."""
        self.since, self.allowed, self.reading = self._clock(), allowed, reading


class Patience:
    """Of one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._every = limits, min(OFTEN, limits.idle / LOOKS, limits.send / LOOKS)
        self._open: set[Connection] = set()
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def with_(self, connection: Connection) -> Iterator[None]:
        """Inside this block a connection is closed that has been silent for too long, and the task of one that does
        not read is cancelled; either is `over` then."""
        self._open.add(connection)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())
        try:
            yield
        finally:
            self._open.discard(connection)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while self._open:
            await asyncio.sleep(self._every)
            for connection in list(self._open):
                if loop.time() - connection.since <= connection.allowed:
                    continue
                if connection.reading or connection.over:
                    connection.task.cancel()
                else:
                    connection.waits(self._limits.send)  # for its farewell
                    with contextlib.suppress(Exception):  # gone already: the others are looked at all the same
                        await asyncio.wait_for(connection.socket.close(POLICY, "silent for too long"), self._every)
                connection.over = True
