"""Many streams through one model, side by side: what comes in for some of them is one step of a batch.

Every stream has a slot, a row of each leaf of the state, which is written when it joins. Rows never meet, so that one
stream's NaN stays its own.

N streams, T steps, I inputs, O outputs
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import Any

import numpy as np
import torch

from clew import tree
from clew.errors import ClewError, DataError
from clew.models import Single
from clew.stream.engine import Carried, engine_of
from clew.stream.slots import Slots
from clew.stream.snapshot import restored, snapshot
from clew.stream.turns import Turns
from clew.tasks.base import Heard, Streamed
from clew.tasks.plain import Plain
from clew.tree import State


class FullError(ClewError):
    """Every slot is taken."""


class Batcher:
    """Streams of one model. Every method may be called from any thread.

    Args:
        trained: what `clew.load` gives.
        slots: how many streams there may be at once.
        horizon: steps to forecast at each step; 0 for those of the run.

    Raises:
        NotCausalError: the model needs the future.

    Example:
        >>> batcher = Batcher(clew.load("runs/machines"), slots=1000)
        >>> streams = [batcher.join() for _ in range(1000)]
        >>> answers = batcher.push({streams[0]: {"load": 3.1}, streams[7]: {"load": 2.9}})
        >>> numbers = batcher.step(streams, rows)             # (N, I) raw numbers to (N, O), in `batcher.outputs`
    """

    def __init__(self, trained: Streamed, slots: int = 1024, horizon: int = 0) -> None:
        self.trained, self.horizon, self.lock = trained, horizon, threading.RLock()
        self._engine = engine_of(trained)
        self._first = self._engine.begin()
        self._slots = Slots(self._engine.leaves(self._first), slots)
        self._free = list(range(slots))[::-1]
        self._streams: dict[int, Carried] = {}
        self._turns = Turns(self._push_those_there)

    def __len__(self) -> int:
        """How many streams there are."""
        return len(self._streams)

    # ------------------------------------------------------------------------------------------------- joining, leaving

    def join(self, saved: bytes | None = None) -> int:
        """A new stream, or one that goes on from a snapshot: its number.

        Raises:
            FullError: every slot is taken.
            RunError: the snapshot is damaged, or of another model.
        """
        carried = self._engine.copy(self._first) if saved is None else restored(self._engine, saved)
        with self.lock:
            if not self._free:
                raise FullError(f"all {len(self._streams):,} streams are taken", hint="wait until one leaves")
            stream = self._free.pop()
            self._streams[stream] = carried
            self._slots.write(stream, self._engine.leaves(carried))
            return stream

    def leave(self, stream: int) -> None:
        """Forget a stream; its slot is free for another. One that has left already is no mistake."""
        with self.lock:
            if self._streams.pop(stream, None) is not None:
                self._free.append(stream)

    def expire(self, seconds: float) -> list[int]:
        """Let those leave that have heard nothing for so long; their numbers."""
        now = time.monotonic()
        with self.lock:
            idle = [stream for stream, carried in self._streams.items() if now - carried.heard > seconds]
            for stream in idle:
                self.leave(stream)
        return idle

    def reset(self, stream: int) -> None:
        """Begin a stream anew."""
        with self.lock:
            self._known(stream)
            self._streams[stream] = carried = self._engine.copy(self._first)
            self._slots.write(stream, carried.leaves)

    def snapshot(self, stream: int) -> bytes:
        """All that a stream is; `join` and `Session.restore` take it."""
        with self.lock:
            carried = self._known(stream)
            carried.leaves = self._slots.read(stream)
            return snapshot(self._engine, carried)

    def state(self, stream: int) -> State:
        """The state of a stream as the model has it: a copy, of tensors."""
        with self.lock:
            self._known(stream)
            rows = map(torch.from_numpy, self._slots.read(stream))
        return tree.rebuild(self._engine.initial, rows)

    def steps(self, stream: int) -> int:
        """How many steps a stream has read."""
        return self._known(stream).steps

    # ---------------------------------------------------------------------------------------------------------- reading

    def push(self, values: Mapping[int, Any]) -> dict[int, dict[str, Any] | DataError]:
        """What lines of several streams say, each as `Session.push` has it; the answers, or what was wrong with a line,
        which leaves its stream as it was."""
        with self.lock:
            now = time.monotonic()
            read: dict[int, np.ndarray] = {}
            before: dict[int, np.ndarray | None] = {}
            found: dict[int, dict[str, Any] | DataError] = {}
            for stream, value in values.items():
                carried = self._known(stream)
                carried.heard = now
                try:
                    x_TI, carried.unread = self.trained.from_line(value, carried.unread)
                    found[stream] = {}
                    if len(x_TI):
                        read[stream], before[stream] = x_TI, carried.last
                except DataError as error:
                    found[stream] = error
            for stream, y in self._read(read).items():
                self._streams[stream].steps += len(read[stream])
                if len(y):
                    heard = Heard(read[stream], y, before[stream], lambda k, stream=stream: self._roll(stream, k))
                    found[stream] = self.trained.answer(heard, self.horizon)
            return found

    def peek(self, stream: int, value: Any) -> np.ndarray:
        """The steps (T, I) that a line would bring to a stream, as the model reads them. Raises DataError."""
        with self.lock:
            return self.trained.from_line(value, self._known(stream).unread)[0]

    def submit(self, stream: int, value: Any) -> Future[dict[str, Any]]:
        """The answer to a line once it is there. Lines that wait together are read together; a stream's in their order.

        The future raises DataError where the line is not what the model reads.
        """
        self._known(stream)
        return self._turns.submit(stream, value)

    def close(self) -> None:
        """Answer what waits, and end the worker."""
        self._turns.close()

    @property
    def outputs(self) -> list[str]:
        """What the O numbers of `step` are called."""
        return self._plain.outputs

    def step(self, streams: Sequence[int] | np.ndarray, rows_NI: np.ndarray) -> np.ndarray:
        """One step of raw numbers for each of some different streams: the plain numbers of their answers (N, O).

        A row that holds a NaN or an infinity is not read: its answer is NaN, its stream as it was. Speak to one stream
        either so or by `push`, which weighs a line by the prediction before it: `step` keeps none.
        """
        places = np.asarray(streams, dtype=np.intp)
        plain = self._plain
        rows_NI = np.asarray(rows_NI)
        if rows_NI.shape != (len(places), len(plain.inputs)):
            what = f"{len(places)} streams of {len(plain.inputs)} numbers, got {rows_NI.shape}"
            raise DataError(what, hint=", ".join(plain.inputs[:8]))
        with self.lock:
            now = time.monotonic()
            finite = np.logical_and.reduce(np.isfinite(rows_NI), axis=1)
            for carried, read in zip([self._known(stream) for stream in places.tolist()], finite.tolist(), strict=True):
                carried.steps += read
                carried.heard = now
            if finite.all() and len(places):
                return self._slots.move(plain, places, rows_NI)
            answers = np.full((len(places), len(plain.outputs)), np.nan, np.float32)
            if finite.any():
                answers[finite] = self._slots.move(plain, places[finite], rows_NI[finite])
            return answers

    # ----------------------------------------------------------------------------------------------------------- inside

    @cached_property
    def _plain(self) -> Plain:
        return self.trained.plain()

    def _push_those_there(self, values: Mapping[int, Any]) -> dict[int, Any]:
        with self.lock:
            there = {stream: value for stream, value in values.items() if stream in self._streams}
            gone = {stream: _gone(stream) for stream in values if stream not in there}
            return {**self.push(there), **gone}

    def _read(self, given: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """The predictions (T, ...) of each stream at its steps, and all states moved on."""
        model = self.trained.model
        if not isinstance(model, Single):  # one that makes fewer steps than it reads: one by one
            return {stream: self._read_alone(stream, x_TI) for stream, x_TI in given.items()}
        if given and all(len(x_TI) == 1 for x_TI in given.values()):  # nearly always, and quicker
            rows_NI = next(iter(given.values())) if len(given) == 1 else np.concatenate(list(given.values()))
            y_N1 = self._slots.move(model, list(given), rows_NI)[:, None]
            for stream, y_1 in zip(given, y_N1, strict=True):
                self._streams[stream].last = y_1[0].copy()  # a view would keep the whole batch
            return dict(zip(given, y_N1, strict=True))
        out: dict[int, list[np.ndarray]] = {stream: [] for stream in given}
        for t in range(max(map(len, given.values()), default=0)):
            now = [stream for stream, x_TI in given.items() if len(x_TI) > t]
            rows_NI = np.stack([given[stream][t] for stream in now])
            for stream, y in zip(now, self._slots.move(model, now, rows_NI), strict=True):
                out[stream].append(y)
        for stream, ys in out.items():
            self._streams[stream].last = ys[-1].copy()
        return {stream: np.stack(ys) for stream, ys in out.items()}

    def _read_alone(self, stream: int, x_TI: np.ndarray) -> np.ndarray:
        carried = self._streams[stream]
        carried.leaves = self._slots.read(stream)
        y = self._engine.read(carried, x_TI)
        self._slots.write(stream, self._engine.leaves(carried))
        return y

    def _roll(self, stream: int, steps: int) -> np.ndarray:
        carried = self._streams[stream]
        return self._engine.roll(Carried(self._slots.read(stream), carried.last), steps)

    def _known(self, stream: int) -> Carried:
        carried = self._streams.get(stream)
        if carried is None:
            raise _gone(stream)
        return carried


def _gone(stream: int) -> ClewError:
    return ClewError(f"there is no stream {stream}", hint="it has left, or its time was over: join again")
