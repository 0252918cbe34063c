"""One stream through a trained model: raw values in, answers in the same terms out.

However the values are cut into pushes, the answers are those of the whole pass (the law of split).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

from clew.errors import RunError
from clew.stream.engine import at_least_0, engine_of
from clew.stream.snapshot import restored, snapshot
from clew.tasks.base import Streamed
from clew.tree import State


class Session:
    """The state of one stream; constant memory, however long it runs. Sessions of one model share its weights, and may
    be used by different threads; one of them by one at a time.

    Args:
        trained: what `clew.load` gives. Once a model has learned on, begin new sessions.
        horizon: steps to forecast at each step; 0 for those of the run.

    Raises:
        NotCausalError: the model needs the future.
        ConfigError: a horizon below 0.

    Example:
        >>> session = Session(clew.load("runs/co2"))
        >>> forecast = session.push(315.4)["forecast"]            # the next H values of the target
        >>> saved = session.snapshot()                            # bytes, for a file or another machine
    """

    def __init__(self, trained: Streamed, horizon: int = 0) -> None:
        self.trained, self.horizon = trained, at_least_0(horizon)
        self._engine = engine_of(trained)
        self._carried = self._engine.begin()

    @property
    def steps(self) -> int:
        """How many steps have been read."""
        return self._carried.steps

    @property
    def state(self) -> State:
        """As the model has it: a copy, of tensors."""
        return self._engine.state(self._carried)

    def reset(self) -> None:
        """Forget all that was pushed."""
        self._carried = self._engine.begin()

    def push(self, value: Any) -> dict[str, Any]:
        """Read what a line of the stream says and answer; nothing where it completes no step.

        Args:
            value: numbers: one, a list with one a column, an object by column, or a chunk: a list of those or an array
                (T, C). Text: a string or {"text": ...}, a list of words. Sound: a list of samples, or
                {"samples": [...]}.

        Raises:
            DataError: it is not what the model reads; the stream is left as it was.
        """
        return self._engine.push(self._carried, value, self.horizon)

    def snapshot(self) -> bytes:
        """All that this stream is, as the bytes of a safetensors file with a checksum."""
        with self._engine.lock:
            return snapshot(self._engine, self._carried)

    def restore(self, saved: bytes | str | os.PathLike[str]) -> None:
        """Go on from a snapshot, or from the file that one was written to.

        Raises:
            RunError: it cannot be read, is damaged, or is of another model; the stream is left as it was.
        """
        file = None if isinstance(saved, bytes) else Path(saved)
        try:
            content = saved if isinstance(saved, bytes) else Path(saved).read_bytes()
        except OSError as error:
            raise RunError(f"cannot be read: {error.strerror or error}", file=file) from error
        self._carried = restored(self._engine, content, file)

    def fork(self) -> Self:
        """A second stream that goes on from here by itself."""
        other = type(self).__new__(type(self))
        other.trained, other.horizon, other._engine = self.trained, self.horizon, self._engine
        other._carried = self._engine.copy(self._carried)
        return other
