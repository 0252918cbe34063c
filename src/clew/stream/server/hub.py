"""The streams of a server: lines that come in during one turn of the event loop are one batch.

A long line would keep the loop, and with it all others, waiting: it is read by itself on another thread, which lets the
loop have its turns.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from clew.errors import ClewError, RunError
from clew.stream.batcher import Batcher
from clew.stream.server.limits import Limits
from clew.tasks.base import Streamed, say
from clew.training.files import write_atomic

NAME = re.compile(r"[0-9a-f]{32}")
SHORT, NUMBER = 4096, 32  # bytes of a line that is read in the loop, and how many more for each number of a step
TOGETHER, MORE = 1024, 1 << 14  # lines of one batch, and bytes of them beyond a step each
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
        self._step = NUMBER * (1 + _width(trained))  # bytes of one, about
        self._resumed: set[str] = set()
        self._waiting: list[tuple[int, Any, int, asyncio.Future[Any]]] = []
        self._called = False  # whether there will be a turn
        self._reader = ThreadPoolExecutor(1, "clew-long-lines")
        self._writer = ThreadPoolExecutor(4, "clew-keeps")
        self.registry = CollectorRegistry()
        self.messages = Counter("clew_messages", "Lines that were read", registry=self.registry)
        self.refused = Counter("clew_refused", "What was refused, by why", ["why"], registry=self.registry)
        self.seconds = Histogram("clew_batch_seconds", "Seconds that a batch took", registry=self.registry)
        sizes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
        self.sizes = Histogram("clew_batch_streams", "Streams of a batch", buckets=sizes, registry=self.registry)
        Gauge("clew_streams", "Streams that are open", registry=self.registry).set_function(lambda: len(self.batcher))
        self._forget()

    def join(self, name: str = "") -> tuple[int, str]:
        """A new stream and its name, or the one of that name which an earlier server left.

        Raises:
            FullError: there are as many streams as there may be.
            RunError: nothing of that name is kept, or it is damaged, or of another model.
        """
        if not name:
            return self.batcher.join(), secrets.token_hex(16)
        file = self._file(name)
        if file is None or not file.is_file() or _is_old(file):
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
        file = self._file(name)
        if file is not None and self.draining and self.batcher.steps(stream):
            self._writer.submit(self._keep, name, file, self.batcher.snapshot(stream))
        elif file is not None and name in self._resumed:
            file.unlink(missing_ok=True)
        self._resumed.discard(name)
        self.batcher.leave(stream)

    async def push(self, stream: int, value: Any, length: int) -> dict[str, Any]:
        """The answer to a line of so many bytes. Raises DataError where it is not what the model reads."""
        loop = asyncio.get_running_loop()
        if length > SHORT + self._step:
            began = time.perf_counter()
            try:
                return await loop.run_in_executor(self._reader, self.batcher.push_alone, stream, value)
            finally:
                self._count(1, began)
        if len(self.batcher) == 1 and not self._called:  # nobody to wait for
            began = time.perf_counter()
            said = self.batcher.push({stream: value})[stream]
            self._count(1, began)
            if isinstance(said, Exception):
                raise said
            return said
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((stream, value, length, future))
        if not self._called:
            self._called = True
            loop.call_soon(self._turn)
        return await future

    def close(self) -> None:
        """Until every stream that is kept is on disk."""
        self._writer.shutdown()
        self._reader.shutdown(wait=False, cancel_futures=True)

    def _turn(self) -> None:
        """Read what waits, as one batch; where it is much, the loop has its turn in between."""
        count = more = 0
        for count, (_, _, length, _) in enumerate(self._waiting, 1):
            more += max(0, length - self._step)
            if more > MORE or count == TOGETHER:
                break
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self._called = bool(self._waiting)
        if self._called:
            asyncio.get_running_loop().call_soon(self._turn)
        began = time.perf_counter()
        try:
            found: Any = self.batcher.push({stream: value for stream, value, *_ in batch})
        except Exception as error:  # a fault of ours: nobody waits for ever
            found = {stream: error for stream, *_ in batch}
        for stream, *_, future in batch:
            if future.done():
                continue
            if isinstance(found[stream], Exception):
                future.set_exception(found[stream])
            else:
                future.set_result(found[stream])
        self._count(len(batch), began)

    def _count(self, lines: int, began: float) -> None:
        self.seconds.observe(time.perf_counter() - began)
        self.sizes.observe(lines)
        self.messages.inc(lines)

    def _keep(self, name: str, file: Path, saved: bytes) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, saved)
        except (OSError, ClewError) as error:  # a full disk keeps no stream
            self.refused.labels("keep").inc()
            say(f"the stream {name} is lost: {error}")

    def _forget(self) -> None:
        """Delete what nobody came back for."""
        for file in self.folder.glob("*.snapshot") if self.folder and self.folder.is_dir() else ():
            if NAME.fullmatch(file.stem) and _is_old(file):
                file.unlink(missing_ok=True)

    def _file(self, name: str) -> Path | None:
        return self.folder / f"{name}.snapshot" if self.folder and NAME.fullmatch(name) else None


def _width(trained: Streamed) -> int:
    """Numbers of a step, where it is one of numbers."""
    try:
        return len(trained.plain().inputs)
    except ClewError:
        return 0


def _is_old(file: Path) -> bool:
    return time.time() - file.stat().st_mtime > KEPT
