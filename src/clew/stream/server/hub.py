"""The streams of a server: lines that come in during one turn of the event loop are one batch."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from clew.errors import ClewError, DataError, RunError
from clew.stream.batcher import Batcher
from clew.stream.server.limits import Limits
from clew.tasks.base import Streamed, say
from clew.training.files import write_atomic

NAME = re.compile(r"[0-9a-f]{32}")
SMALL = 1 << 16  # characters that are read in the loop itself: a thread's hop would cost more
KEPT = 86_400.0  # seconds that the snapshot of a stream waits for its client


class Hub:
    """Args:
    trained: a model that can stream.
    folder: where streams go when the server ends; None for nowhere.
    """

    def __init__(self, trained: Streamed, limits: Limits, folder: Path | None = None) -> None:
        self.trained, self.limits, self.folder = trained, limits, folder
        self.batcher = Batcher(trained, limits.streams)
        self.draining = False
        self._resumed: set[str] = set()
        self._waiting: list[tuple[int, Any, asyncio.Future[Any]]] = []
        self._called = False  # whether there will be a turn
        self._thread: asyncio.Future[Any] | None = None  # what reads a large batch, and holds the batcher until it has
        self.registry = CollectorRegistry()
        self.messages = Counter("clew_messages", "Lines that were read", registry=self.registry)
        self.refused = Counter("clew_refused", "What was refused, by why", ["why"], registry=self.registry)
        self.seconds = Histogram("clew_batch_seconds", "Seconds that a batch took", registry=self.registry)
        sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
        self.sizes = Histogram("clew_batch_streams", "Streams of a batch", buckets=sizes, registry=self.registry)
        Gauge("clew_streams", "Streams that are open", registry=self.registry).set_function(lambda: len(self.batcher))

    async def free(self) -> None:
        """Until the batcher is: asked for anything before, it would keep the whole loop waiting."""
        while self._thread is not None:
            await asyncio.wait([self._thread])

    async def join(self, name: str = "") -> tuple[int, str]:
        """A new stream and its name, or the one of that name which an earlier server left.

        Raises:
            FullError: there are as many streams as there may be.
            RunError: nothing of that name is kept, or it is damaged, or of another model.
        """
        await self.free()
        if not name:
            return self.batcher.join(), secrets.token_hex(16)
        file = self._file(name)
        if file is None or not file.is_file() or time.time() - file.stat().st_mtime > KEPT:
            what = "there is no stream of that name to go on from"
            raise RunError(
                what, hint="only those that are open when a server ends are kept, for a day: begin a new one"
            )
        if file.stat().st_size > self.limits.frame + (1 << 26):
            raise RunError("the kept stream is too large", hint="begin a new one")
        if name in self._resumed:
            raise RunError("that stream goes on elsewhere", hint="begin a new one")
        stream = self.batcher.join(file.read_bytes())
        self._resumed.add(name)  # its file stays, lest a power cut takes both
        return stream, name

    def leave(self, stream: int, name: str = "") -> None:
        """Forget a stream, or keep it for the next server where this one ends."""
        if self._thread is not None and not self.draining:
            self._thread.add_done_callback(lambda _: self.leave(stream, name))
            return
        file = self._file(name)
        if file is not None and self.draining and self.batcher.steps(stream):
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(file, self.batcher.snapshot(stream))
            except (OSError, ClewError) as error:  # a full disk keeps no stream
                self.refused.labels("keep").inc()
                say(f"the stream {name} is lost: {error}")
        elif file is not None and name in self._resumed:
            file.unlink(missing_ok=True)
        self._resumed.discard(name)
        self.batcher.leave(stream)

    async def push(self, stream: int, value: Any) -> dict[str, Any]:
        """The answer to a line. Raises DataError where it is not what the model reads."""
        if len(self.batcher) == 1 and not self._called and _size(value) <= SMALL:  # nobody to wait for
            began = time.perf_counter()
            said = self.batcher.push({stream: value})[stream]
            self._count(1, began)
            if isinstance(said, DataError):
                raise said
            return said
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((stream, value, future))
        if not self._called:
            self._called = True
            loop.call_soon(self._turn)
        return await future

    def _turn(self) -> None:
        """Read what waits, as one batch; a large one on a thread of its own, and the next when that is done."""
        batch, self._waiting = self._waiting, []
        values, began = {stream: value for stream, value, _ in batch}, time.perf_counter()
        if sum(_size(value) for value in values.values()) > SMALL:
            self._thread = asyncio.get_running_loop().run_in_executor(None, self.batcher.push, values)
            self._thread.add_done_callback(lambda done: self._answer(batch, began, done.exception() or done.result()))
            return
        try:
            found: Any = self.batcher.push(values)
        except Exception as error:  # a fault of ours: nobody waits for ever
            found = error
        self._answer(batch, began, found)

    def _answer(self, batch: list[tuple[int, Any, asyncio.Future[Any]]], began: float, found: Any) -> None:
        self._thread = None
        for stream, _, future in batch:
            said = found if isinstance(found, BaseException) else found[stream]
            if future.done():
                continue
            if isinstance(said, BaseException):
                future.set_exception(said)
            else:
                future.set_result(said)
        self._count(len(batch), began)
        self._called = bool(self._waiting)
        if self._called:
            asyncio.get_running_loop().call_soon(self._turn)

    def _count(self, lines: int, began: float) -> None:
        self.seconds.observe(time.perf_counter() - began)
        self.sizes.observe(lines)
        self.messages.inc(lines)

    def _file(self, name: str) -> Path | None:
        return self.folder / f"{name}.snapshot" if self.folder and NAME.fullmatch(name) else None


def _size(value: Any) -> int:
    """About how much a line has to be read."""
    if isinstance(value, dict):
        return sum(16 * len(part) if isinstance(part, dict | list | str) else 1 for part in value.values())
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        return 16 * len(value)
    return len(value) if isinstance(value, str | list) else 1
