"""Many streams through one model, side by side: what comes in for some of them is one step of a batch.

Every stream has a slot, a row of each leaf of the state, which is written when it joins. Rows never meet, so that one
stream's NaN stays its own.

N streams, T steps, I inputs, O outputs
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from clew import tree
from clew.errors import ClewError, DataError
from clew.models import Single
from clew.stream.device_slots import DeviceSlots
from clew.stream.engine import Carried, at_least_0, engine_of
from clew.stream.slots import Slots
from clew.stream.snapshot import restored, snapshot
from clew.tasks.base import Heard, Streamed
from clew.tasks.plain import Plain
from clew.tree import State


class FullError(ClewError):
    """Every slot is taken."""


class Batcher:
    """Streams of one model, each known by a number that no other gets. Every method may be called from any thread.

    Args:
        trained: what `clew.load` gives. Once it has learned on, make another Batcher.
        slots: how many streams there may be at once.
        horizon: steps to forecast at each step; 0 for those of the run.

    Raises:
        NotCausalError: the model needs the future.
        ConfigError: a horizon below 0.

    Example:
        >>> batcher = Batcher(clew.load("runs/machines"), slots=1000)
        >>> streams = [batcher.join() for _ in range(1000)]
        >>> answers = batcher.push({streams[0]: {"load": 3.1}, streams[7]: {"load": 2.9}})
        >>> numbers = batcher.step(streams, rows)             # (N, I) raw numbers to (N, O), in `batcher.outputs`
    """

    def __init__(self, trained: Streamed, slots: int = 1024, horizon: int = 0) -> None:
        self.trained, self.horizon, self.lock = trained, at_least_0(horizon), threading.RLock()
        self._engine = engine_of(trained)
        self._first = self._engine.begin()
        first, device = self._engine.leaves(self._first), next(trained.model.parameters()).device
        self._slots = Slots(first, slots) if device.type == "cpu" else DeviceSlots(first, slots, device)
        self._count = slots
        self._free = list(range(slots))[::-1]  # numbers of streams to come
        self._streams: dict[int, Carried] = {}
        self._alone: set[int] = set()  # who reads a long line by itself
        self._back = threading.Condition(self.lock)

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
            self._slots.write(self._slot(stream), self._engine.leaves(carried))
            return stream

    def leave(self, stream: int) -> None:
        """Forget a stream; its slot is free for another. One that has left already is no mistake."""
        with self.lock:
            if self._streams.pop(stream, None) is not None:
                self._free.append(stream + self._count)  # the same slot

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
            self._wait([stream])
            self._known(stream)
            self._streams[stream] = carried = self._engine.copy(self._first)
            self._slots.write(self._slot(stream), carried.leaves)

    def snapshot(self, stream: int) -> bytes:
        """All that a stream is; `join` and `Session.restore` take it."""
        with self.lock:
            carried = self._known(stream)
            carried.leaves = self._slots.read(self._slot(stream))
            return snapshot(self._engine, carried)

    def state(self, stream: int) -> State:
        """The state of a stream as the model has it: a copy, of tensors."""
        with self.lock:
            self._known(stream)
            rows = map(torch.from_numpy, self._slots.read(self._slot(stream)))
        return tree.rebuild(self._engine.initial, rows)

    def steps(self, stream: int) -> int:
        """How many steps a stream has read."""
        return self._known(stream).steps

    # ---------------------------------------------------------------------------------------------------------- reading

    def push(self, values: Mapping[int, Any]) -> dict[int, dict[str, Any] | Exception]:
        """What lines of several streams say, each as `Session.push` has it; the answers, or what was wrong with a line,
        which leaves its stream as it was."""
        with self.lock:
            self._wait(values)
            now = time.monotonic()
            read: dict[int, np.ndarray] = {}
            before: dict[int, np.ndarray | None] = {}
            found: dict[int, dict[str, Any] | Exception] = {}
            for stream, value in values.items():
                try:
                    carried = self._known(stream)
                    carried.heard = now
                    x_TI, carried.unread = self.trained.from_line(value, carried.unread)
                    found[stream] = {}
                    if len(x_TI):
                        read[stream], before[stream] = x_TI, carried.last
                except Exception as error:  # what is odd about one line is no matter of the others
                    found[stream] = error
            for stream, y in self._read(read).items():
                self._streams[stream].steps += len(read[stream])
                if len(y):
                    heard = Heard(read[stream], y, before[stream], lambda k, stream=stream: self._roll(stream, k))
                    found[stream] = self.trained.answer(heard, self.horizon)
            return found

    def push_alone(self, stream: int, value: Any) -> dict[str, Any]:
        """What a long line of one stream says, while others go on; its own next line waits.

        Raises:
            DataError: as `Session.push`; the stream is as it was.
            ClewError: it has left, perhaps while its line was read.
        """
        with self.lock:
            self._wait([stream])
            carried = self._known(stream)
            carried.heard = time.monotonic()
            own = Carried(self._slots.read(self._slot(stream)), carried.last, carried.unread, carried.steps)
            self._alone.add(stream)
        try:
            answer = self._engine.push(own, value, self.horizon)
            with self.lock:
                if self._streams.get(stream) is not carried:
                    raise _gone(stream)
                self._streams[stream] = moved = self._engine.copy(own)  # which no Stepper holds
                self._slots.write(self._slot(stream), moved.leaves)
            return answer
        finally:
            with self.lock:
                self._alone.discard(stream)
                self._back.notify_all()

    def peek(self, stream: int, value: Any) -> np.ndarray:
        """The steps (T, I) that a line would bring to a stream, as the model reads them. Raises DataError."""
        with self.lock:
            return self.trained.from_line(value, self._known(stream).unread)[0]

    @property
    def outputs(self) -> list[str]:
        """What the O numbers of `step` are called."""
        return self._plain.outputs

    def step(self, streams: Sequence[int] | np.ndarray, rows_NI: np.ndarray) -> np.ndarray:
        """One step of raw numbers for each of some different streams: the plain numbers of their answers (N, O).

        A row that holds a NaN or an infinity is not read: its answer is NaN, its stream as it was. (What is no unit of
        text is a DataError, and nothing is read.) Speak to one stream either so or by `push`, which weighs a line by
        the prediction before it: `step` keeps none.
        """
        plain, streams = self._plain, np.asarray(streams, dtype=np.intp)
        rows_NI = np.asarray(rows_NI)
        if rows_NI.shape != (len(streams), len(plain.inputs)):
            what = f"{len(streams)} streams of {len(plain.inputs)} numbers, got {rows_NI.shape}"
            raise DataError(what, hint=", ".join(plain.inputs[:8]))
        asked = streams.tolist()
        if len(set(asked)) < len(asked):
            raise DataError("a stream is asked for twice", hint="one step of each: call again for the next")
        inner, read_NI = self._inner, plain.read(rows_NI)
        finite = np.logical_and.reduce(np.isfinite(read_NI), axis=1)
        with self.lock:
            self._wait(asked)
            those, now = [self._known(stream) for stream in asked], time.monotonic()
            places = streams % self._count
            if finite.all() and len(places):
                answers = self._slots.move(inner, places, read_NI)
            else:
                answers = np.full((len(places), len(plain.outputs)), np.nan, np.float32)
                if finite.any():
                    answers[finite] = self._slots.move(inner, places[finite], read_NI[finite])
            for carried, read in zip(those, finite.tolist(), strict=True):
                carried.steps += read
                carried.heard = now
            return answers

    # ----------------------------------------------------------------------------------------------------------- inside

    @cached_property
    def _plain(self) -> Plain:
        return self.trained.plain()

    @cached_property
    def _inner(self) -> Plain:
        return self._plain.inner()

    def _slot(self, stream: int) -> int:
        return stream % self._count

    def _read(self, given: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """The predictions (T, ...) of each stream at its steps, and all states moved on."""
        model = self.trained.model
        if not isinstance(model, Single):  # one that makes fewer steps than it reads: one by one
            return {stream: self._read_alone(stream, x_TI) for stream, x_TI in given.items()}
        if given and all(len(x_TI) == 1 for x_TI in given.values()):  # nearly always, and quicker
            rows_NI = next(iter(given.values())) if len(given) == 1 else np.concatenate(list(given.values()))
            y_N1 = self._slots.move(model, [*map(self._slot, given)], rows_NI)[:, None]
            for stream, y_1 in zip(given, y_N1, strict=True):
                self._streams[stream].last = y_1[0].copy()  # a view would keep the whole batch
            return dict(zip(given, y_N1, strict=True))
        out: dict[int, list[np.ndarray]] = {stream: [] for stream in given}
        for t in range(max(map(len, given.values()), default=0)):
            now = [stream for stream, x_TI in given.items() if len(x_TI) > t]
            rows_NI = np.stack([given[stream][t] for stream in now])
            y_N = self._slots.move(model, [*map(self._slot, now)], rows_NI)
            for stream, y in zip(now, y_N, strict=True):
                out[stream].append(y)
        for stream, ys in out.items():
            self._streams[stream].last = ys[-1].copy()
        return {stream: np.stack(ys) for stream, ys in out.items()}

    def _read_alone(self, stream: int, x_TI: np.ndarray) -> np.ndarray:
        carried = self._streams[stream]
        carried.leaves = self._slots.read(self._slot(stream))
        y = self._engine.read(carried, x_TI)
        self._slots.write(self._slot(stream), self._engine.leaves(carried))
        return y

    def _roll(self, stream: int, steps: int) -> np.ndarray:
        carried = self._streams[stream]
        return self._engine.roll(Carried(self._slots.read(self._slot(stream)), carried.last), steps)

    def _wait(self, streams: Iterable[int]) -> None:
        """Until none of these reads by itself. The lock is open meanwhile: look them up afterwards."""
        while self._alone and not self._alone.isdisjoint(streams):
            self._back.wait()

    def _known(self, stream: int) -> Carried:
        carried = self._streams.get(stream)
        if carried is None:
            raise _gone(stream)
        return carried


def _gone(stream: int) -> ClewError:
    return ClewError(f"there is no stream {stream}", hint="it has left, or its time was over: join again")
