"""What moves streams on: a Stepper where the model can have one, else the model's own pass.

One engine serves all streams of a model, so that its weights are there once. The Stepper holds the state of one of
them, and takes in that of another when it is asked to.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import weakref
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from clew import tree
from clew.data.audio import LogMel
from clew.data.inputs import AudioInput
from clew.errors import ClewError, ConfigError
from clew.models import Single
from clew.stream.recorder import blank
from clew.stream.stepper import Stepper
from clew.tasks.base import Heard, Streamed
from clew.training.weights import pack
from clew.tree import State

_ENGINES: weakref.WeakValueDictionary[int, Engine] = weakref.WeakValueDictionary()  # by the id of their model
_MAKING = threading.RLock()
SLICE = 256  # steps that one stream is moved on before others have their turn


@dataclass(eq=False)
class Carried:
    """All that one stream is."""

    leaves: list[np.ndarray]
    """The state, one row; out of date while the Stepper has it."""
    last: np.ndarray | None = None
    """The latest prediction."""
    unread: Any = None
    """Of what was pushed: what is no whole step yet."""
    steps: int = 0
    """How many have been read."""
    heard: float = field(default_factory=time.monotonic)
    """When it was last spoken to, in seconds of the monotonic clock."""


class Engine:
    """Moves streams of one trained model, one at a time; different ones may be asked for by different threads.

    Args:
        trained: what `clew.load` gives.

    Raises:
        NotCausalError: the model needs the future.
    """

    def __init__(self, trained: Streamed) -> None:
        self.trained, self.model, self.lock = trained, trained.model, threading.RLock()
        self.model.eval()
        with torch.no_grad():
            self.initial: State = self.model.init_state(1)
        self.version = _version(trained)
        self.fingerprint = _fingerprint(trained)
        """Equal for equal models: of the weights and of what was found from the training part."""
        self.ended = False
        """Once it is, long lines are given up: the process ends, and would wait for them."""
        self._stepper = stepper_of(trained)
        self._holds: Carried | None = None

    @cached_property
    @torch.no_grad()
    def prediction(self) -> torch.Size:
        """The shape of one."""
        model, (device, dtype) = self.model, _kind(self.model)
        x = blank(model, 1) if isinstance(model, Single) else torch.zeros(1, model.front.input_size)
        return model(x[None].to(device, dtype if x.is_floating_point() else None))[0].shape[2:]

    def begin(self) -> Carried:
        """A stream before its first step."""
        carried = Carried([leaf.detach().cpu().numpy().copy() for leaf in tree.leaves(self.initial)])
        opening = self.trained.opening()
        if len(opening):
            self.read(carried, opening)
        return carried

    def push(self, carried: Carried, value: Any, horizon: int = 0) -> dict[str, Any]:
        """What the task says to a line of the stream. Raises DataError; then the stream is as it was."""
        x, carried.unread = self.trained.from_line(value, carried.unread)
        if not len(x):
            return {}
        before = carried.last
        y = self.read(carried, x)
        carried.steps += len(x)
        return self.trained.answer(Heard(x, y, before, lambda k: self.roll(carried, k)), horizon) if len(y) else {}

    def read(self, carried: Carried, x_TI: np.ndarray) -> np.ndarray:
        """The predictions (T, ...) at these steps, and the state moved on."""
        if len(x_TI) <= SLICE:
            return self._read(carried, x_TI)
        found = []
        for at in range(0, len(x_TI), SLICE):
            if self.ended:
                raise ClewError(
                    "this line was not read to its end", hint="the server ends; say it again to the next one"
                )
            found.append(self._read(carried, x_TI[at : at + SLICE]))
        return np.concatenate(found)

    def _read(self, carried: Carried, x_TI: np.ndarray) -> np.ndarray:
        with self.lock:
            if self._stepper is None:
                y = self._pass(carried, x_TI)
            else:
                stepper = self._hold(carried, self._stepper)
                if len(x_TI) == 1:
                    stepper.x[...] = x_TI
                    stepper.run()
                    y = stepper.y.copy()
                    carried.last = y[0]
                    return y
                y = np.empty((len(x_TI), *stepper.y.shape[1:]), np.float32)
                for t, x_I in enumerate(x_TI):
                    stepper.x[...] = x_I
                    stepper.run()
                    y[t] = stepper.y[0]
            if len(y):
                carried.last = y[-1].copy()
            return y

    @torch.no_grad()
    def _pass(self, carried: Carried, x_TI: np.ndarray) -> np.ndarray:
        """The same by the model's own pass."""
        device, dtype = _kind(self.model)
        x = torch.as_tensor(x_TI, dtype=torch.int64 if x_TI.dtype.kind in "iu" else dtype, device=device)[None]
        y_1T, state = self.model(x, self.state(carried))
        self.put(carried, state)
        return y_1T[0].cpu().numpy()

    def roll(self, carried: Carried, steps: int) -> np.ndarray:
        """What is predicted (K, ...) for further steps, each prediction read as the next input; the stream stays."""
        ahead = self.copy(carried)
        parts = [self._roll(ahead, min(SLICE, steps - at)) for at in range(0, steps, SLICE)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @torch.no_grad()
    def _roll(self, ahead: Carried, steps: int) -> np.ndarray:
        """The same for a few, and the stream moved on."""
        y, found = ahead.last, []
        assert y is not None, "there is a prediction to go on from"
        with self.lock:
            if self._stepper is None:
                state, (device, dtype) = self.state(ahead), _kind(self.model)
                for _ in range(steps):
                    y_B, state = self.model.step(torch.as_tensor(y, dtype=dtype, device=device).reshape(1, -1), state)  # pyright: ignore
                    y = y_B[0].cpu().numpy()
                    found.append(y)
                self.put(ahead, state)
            else:
                stepper = self._hold(ahead, self._stepper)
                for _ in range(steps):
                    stepper.x[...] = y.reshape(1, -1)
                    stepper.run()
                    y = stepper.y[0].copy()
                    found.append(y)
        ahead.last = y
        return np.stack(found)

    def leaves(self, carried: Carried) -> list[np.ndarray]:
        """The state of a stream as it stands, not to be written to."""
        with self.lock:
            if self._stepper is not None and self._holds is carried:
                carried.leaves = [leaf.copy() for leaf in self._stepper.leaves]
            return carried.leaves

    def state(self, carried: Carried) -> State:
        """The same as the model has it."""
        device = _kind(self.model)[0]
        tensors = (torch.from_numpy(leaf.copy()).to(device) for leaf in self.leaves(carried))
        return tree.rebuild(self.initial, tensors)

    def put(self, carried: Carried, state: State) -> None:
        """Give a stream this state."""
        with self.lock:
            carried.leaves = [leaf.detach().cpu().numpy() for leaf in tree.leaves(state)]
            if self._holds is carried:
                self._holds = None

    def copy(self, carried: Carried) -> Carried:
        """The same stream once more."""
        leaves = [leaf.copy() for leaf in self.leaves(carried)]
        return Carried(leaves, carried.last, carried.unread, carried.steps)

    def _hold(self, carried: Carried, stepper: Stepper) -> Stepper:
        if self._holds is not carried:
            if self._holds is not None:
                self.leaves(self._holds)
            for ours, leaf in zip(stepper.leaves, carried.leaves, strict=True):
                ours[...] = leaf
            self._holds = carried
        return stepper


def engine_of(trained: Streamed) -> Engine:
    """The engine of a model, made anew where its weights are no longer those."""
    with _MAKING:
        engine = _ENGINES.get(id(trained))
        if engine is None or engine.trained is not trained or engine.version != _version(trained):
            _ENGINES[id(trained)] = engine = Engine(trained)
        return engine


def stepper_of(trained: Streamed, batch_size: int = 1) -> Stepper | None:
    """A Stepper of a model in single precision on the CPU, where there can be one."""
    if not isinstance(trained.model, Single) or _kind(trained.model) != (torch.device("cpu"), torch.float32):
        return None
    try:
        return Stepper(trained.model, batch_size)
    except ClewError:
        return None


def _kind(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    first = next(model.parameters())
    return first.device, first.dtype


def _version(trained: Streamed) -> tuple[Any, ...]:
    """Another one once a weight was changed or replaced."""
    model = trained.model
    return id(model), *((t.data_ptr(), t._version) for t in (*model.parameters(), *model.buffers()))


def sound_of(trained: Streamed) -> LogMel | None:
    """What makes frames of the samples that a model reads; None where it reads none."""
    source = getattr(trained, "source", None)
    return source.front if isinstance(source, AudioInput) else None


def at_least_0(horizon: int) -> int:
    """A horizon. Raises ConfigError."""
    if horizon < 0:
        raise ConfigError(f"horizon must be at least 0, got {horizon}")
    return horizon


def _fingerprint(trained: Streamed) -> str:
    weights = pack(trained.model.state_dict(), {})
    plan = json.dumps(trained.to_json(), sort_keys=True).encode()
    return hashlib.sha256(hashlib.sha256(weights).digest() + plan).hexdigest()
