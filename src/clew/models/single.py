"""One pass over the input: a body of recurrences, and a head that owns loss and prediction."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from clew.cells import Recurrence
from clew.tree import State


class Head(Protocol):
    """What a model asks of its head; a module, as it may have parameters."""

    def inputs(self, batch: Tensor) -> Tensor: ...
    def loss(self, y: Tensor, batch: Tensor) -> Tensor: ...
    def predict(self, y: Tensor) -> Tensor: ...


class Single(nn.Module):
    """A body and a head. What it predicts at a step needs only the state and that step's input, so it can stream.

    Example:
        >>> model = Single(body, head)
        >>> model.loss(batch).backward()
        >>> prediction, state = model.step(x_BI, model.init_state(1))
    """

    def __init__(self, body: Recurrence, head: Head) -> None:
        super().__init__()
        self.body, self.head = body, head

    def loss(self, batch: Tensor) -> Tensor:
        return self.head.loss(self.body(self.head.inputs(batch))[0], batch)

    def init_state(self, batch_size: int, context: State | None = None) -> State:
        return self.body.init_state(batch_size, context)

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Predictions at every step, and the state after the last."""
        y_BTH, state = self.body(x_BTI, state, context, lengths=lengths, reset=reset)
        return self.head.predict(y_BTH), state

    def step(self, x_BI: Tensor, state: State, context: State | None = None) -> tuple[Tensor, State]:
        y_BH, state = self.body.step(x_BI, state, context)
        return self.head.predict(y_BH), state
