"""One stream through a trained model: raw values in, answers in the same terms out.

However the values are cut into pushes, the answers are those of the whole pass (the law of split).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from clew import tree
from clew.tasks.base import Heard, Streamed
from clew.tree import State


class Session:
    """The state of one stream; constant memory, however long it runs.

    Args:
        trained: what `clew.load` gives.
        horizon: steps to forecast at each step; 0 for those of the run.

    Raises:
        NotCausalError: the model needs the future.

    Example:
        >>> session = Session(clew.load("runs/co2"))
        >>> forecast = session.push(315.4)["forecast"]            # the next H values of the target
    """

    def __init__(self, trained: Streamed, horizon: int = 0) -> None:
        self.trained, self.horizon = trained, horizon
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Forget all that was pushed."""
        model = self.trained.model
        self._state: State = model.init_state(1)
        self._last: Tensor | None = None
        self._unread: Any = None  # of what was pushed: what is no whole step yet
        self.steps = 0
        opening = self.trained.opening()
        if len(opening):
            self._hear(self._tensor(opening))

    @torch.no_grad()
    def push(self, value: Any) -> dict[str, Any]:
        """Read what a line of the stream says and answer.

        Args:
            value: numbers: one, a list with one a column, or an object by column. Text: a string or {"text": ...}, a
                list of words. Sound: a list of samples, or {"samples": [...]}.

        Raises:
            DataError: it is not what the model reads; the stream is left as it was.
        """
        x, self._unread = self.trained.from_line(value, self._unread)
        if not len(x):
            return {}
        before = self._last
        y = self._hear(self._tensor(x))
        self.steps += len(x)
        return self.trained.answer(Heard(x, y, before, self._state), self.horizon)

    def _hear(self, x_1TI: Tensor) -> Tensor:
        y, state = self.trained.model(x_1TI, self._state)
        self._state = tree.detach(state)
        if y.shape[1]:
            self._last = y[:, -1]
        return y

    def _tensor(self, x: Any) -> Tensor:
        parameter = next(self.trained.model.parameters())
        whole = x.dtype.kind in "iu"
        return torch.as_tensor(x, dtype=torch.int64 if whole else parameter.dtype, device=parameter.device)[None]
