"""One pass over the input: a body of recurrences, and a head that owns loss and prediction."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from clew import tree
from clew.cells import Encoder, Recurrence
from clew.data.batch import Batch
from clew.errors import NotCausalError
from clew.tree import State


class Head(Protocol):
    """What a model asks of its head; a module, as it may have parameters."""

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """The mean loss of steps (N, W) with what belongs to them (N, ...)."""
        ...

    def predict(self, y: Tensor) -> Tensor:
        """Predictions (..., P) from outputs (..., W)."""
        ...


@runtime_checkable
class SequenceHead(Protocol):
    """A head that answers for all steps of a sequence together, so that it needs the end of it."""

    def sequence_loss(self, y_BTW: Tensor, batch: Batch) -> Tensor:
        """The mean loss of a step, from outputs of whole sequences."""
        ...

    def predict_sequence(self, y_BTW: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Predictions (B, T, P), 0 where padded."""
        ...


class Single(nn.Module):
    """A body and a head. What it predicts at a step needs only the state and that step's input, so it can stream,
    unless its body is an Encoder or its head a SequenceHead: these need the future.

    Example:
        >>> model = Single(body, head)
        >>> model.loss(batch).backward()
        >>> prediction, state = model.step(x_BI, model.init_state(1))
    """

    def __init__(self, body: Recurrence | Encoder, head: Head | SequenceHead) -> None:
        super().__init__()
        self.body, self.head = body, head

    def loss(self, batch: Batch) -> Tensor:
        """The mean loss over the supervised steps."""
        if isinstance(self.body, Encoder):
            return self._loss(self.body(batch.x, lengths=batch.lengths, reset=batch.reset)[0], batch)
        return self.carry(batch, None)[0]

    def carry(self, batch: Batch, state: State | None) -> tuple[Tensor, State]:
        """The mean loss of a batch that begins in `state`, and the state, detached, in which the next one begins."""
        body, T = self._causal(), batch.x.shape[1]
        advance = min(batch.advance, T) or T
        cuts = {0, T, advance, *range(0, T, batch.reach or T)}
        ys, after = [], state
        for t, end in pairwise(sorted(cuts)):
            if batch.reach and t and t % batch.reach == 0:
                state = tree.detach(state)
            lengths = None if batch.lengths is None else (batch.lengths - t).clamp(0, end - t)
            reset = None if batch.reset is None else batch.reset[:, t:end]
            y, state = body(batch.x[:, t:end], state, lengths=lengths, reset=reset)
            ys.append(y)
            if end == advance:
                after = state
        return self._loss(ys[0] if len(ys) == 1 else torch.cat(ys, 1), batch), tree.detach(after)

    def init_state(self, batch_size: int, context: State | None = None) -> State:
        self._steps()
        return self._causal().init_state(batch_size, context)

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
        if isinstance(self.body, Encoder):
            y_BTH, state = self.body(x_BTI, context, lengths=lengths, reset=reset)
        else:
            y_BTH, state = self.body(x_BTI, state, context, lengths=lengths, reset=reset)
        if isinstance(self.head, SequenceHead):
            return self.head.predict_sequence(y_BTH, lengths), state
        return self.head.predict(y_BTH), state

    def step(self, x_BI: Tensor, state: State, context: State | None = None) -> tuple[Tensor, State]:
        head = self._steps()
        y_BH, state = self._causal().step(x_BI, state, context)
        return head.predict(y_BH), state

    def _loss(self, y_BTH: Tensor, batch: Batch) -> Tensor:
        if isinstance(self.head, SequenceHead):
            return self.head.sequence_loss(y_BTH, batch)
        chosen_BT = batch.supervised
        if chosen_BT is None:
            return self.head.loss(y_BTH.flatten(0, 1), batch.target.flatten(0, 1))
        if not chosen_BT.any():  # a window in which nothing ends
            return 0.0 * y_BTH.sum()
        return self.head.loss(y_BTH[chosen_BT], batch.target[chosen_BT])

    def _steps(self) -> Head:
        if isinstance(self.head, SequenceHead):
            raise NotCausalError(
                "this model chooses the answers to a whole sequence together, so it can neither stream nor feed itself",
                hint="train one with model.crf = false",
            )
        return self.head

    def _causal(self) -> Recurrence:
        if isinstance(self.body, Encoder):
            raise NotCausalError(
                "this model needs the future (it is bidirectional), so it can neither stream nor feed itself",
                hint="train one with model.bidirectional = false",
            )
        return self.body
