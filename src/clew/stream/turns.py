"""Lines that wait together are read together: a worker that takes turns."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

AT_ONCE = 1024  # streams of one turn


class Waiting(NamedTuple):
    stream: int
    value: Any
    answer: Future[dict[str, Any]]


class Turns:
    """Args:
    push: takes one line each of several streams, and gives an answer or an error for each.
    """

    def __init__(self, push: Callable[[Mapping[int, Any]], Mapping[int, Any]]) -> None:
        self._push, self._lock = push, threading.Lock()
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None

    def submit(self, stream: int, value: Any) -> Future[dict[str, Any]]:
        """The answer to a line once it is there; a stream's are in the order of its lines."""
        with self._lock:
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="clew-batcher", daemon=True)
                self._worker.start()
            waiting = Waiting(stream, value, Future())
            self._queue.put(waiting)
        return waiting.answer

    def close(self) -> None:
        """Answer what waits, and end the worker."""
        with self._lock:
            worker, self._worker = self._worker, None
            if worker is not None:
                self._queue.put(None)
        if worker is not None:
            worker.join()

    def _work(self) -> None:
        waiting: list[Waiting] = []
        goes_on = True
        while goes_on or waiting:
            for item in self._arrived(block=goes_on and not waiting):
                if item is None:
                    goes_on = False
                else:
                    waiting.append(item)
            now: dict[int, Waiting] = {}
            later = []
            for item in waiting:
                if item.stream in now or len(now) == AT_ONCE:
                    later.append(item)
                elif item.answer.set_running_or_notify_cancel():
                    now[item.stream] = item
            waiting = later
            if now:
                self._answer(now)

    def _arrived(self, block: bool) -> list[Waiting | None]:
        found = [self._queue.get()] if block else []
        while len(found) < 2 * AT_ONCE:
            try:
                found.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return found

    def _answer(self, now: dict[int, Waiting]) -> None:
        try:
            found = self._push({stream: item.value for stream, item in now.items()})
        except Exception as error:  # a fault of ours: nobody waits for ever
            found = dict.fromkeys(now, error)
        for stream, item in now.items():
            said = found[stream]
            if isinstance(said, BaseException):
                item.answer.set_exception(said)
            else:
                item.answer.set_result(said)
