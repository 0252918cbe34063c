"""A recurrence with stacks that it can train to use (Joulin & Mikolov 2015, arXiv:1503.01007, eq. 4-7; on the idea see
also Grefenstette et al. 2015, arXiv:1506.02516).

y[t] = inner([x[t]; r[t-1]])                                        B batch, S stacks, D slots, W numbers of a slot
a[t] = softmax(A y[t] + a_0),  v[t] = [sigmoid(V y[t] + v_0); 1]    a: push, pop, no-op of each stack
s[t, i] = push s[t-1, i-1] + pop s[t-1, i+1] + noop s[t-1, i]       s[t-1, -1] is v[t], s[t-1, D] is 0
overflow[t] = push full(s[t-1, D-1]),   underflow[t] = pop (1 - full(s[t-1, 0]))
r[t] = [the first slots of s[t]; overflow[t]; underflow[t]]               output: [y[t]; r[t]]

The last of a slot's W + 1 numbers is how full it is: a push writes 1 there, unused slots are 0 throughout. State: that
of inner, slots (B, S, D, W + 1), the last step's overflow and underflow (B, S, 2), and their totals (B, S, 2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.cells.base import Recurrence
from clew.errors import ConfigError, ShapeError
from clew.tree import State

ACTIONS = 3  # push, pop, no-op


class StackState(NamedTuple):
    inner: State
    slots: Tensor  # (B, S, D, W + 1), the top first
    signals: Tensor  # (B, S, 2) overflow and underflow of the last step
    totals: Tensor  # (B, S, 2) of all steps


class Lost(NamedTuple):
    overflow: Tensor  # (B, S) slots that were pushed off the bottom
    underflow: Tensor  # (B, S) slots that were popped from where nothing was


class StackMemory(Recurrence):
    """Any recurrence with stacks beside it, as a recurrence: `inner` reads x and what the stacks show, and its output
    pushes and pops.

    The output is that of inner and then what the stacks show after the step: inner has not seen that, and it is what
    the answer hangs on (whether a closing bracket was the last one, say).

    Args:
        inner: takes x and `shown_size(...)` numbers more.
        depth: slots of a stack. What is pushed off the bottom is lost, and signalled.
        width: numbers of a slot.
        stacks: how many.
        reads: slots that each stack shows, from the top.
        noise: standard deviation of the normal noise on the logits in training, against which only clear decisions last
            (after Salakhutdinov & Hinton 2009, doi:10.1016/j.ijar.2008.11.006).
        hard: in evaluation the likeliest action is taken whole, so that nothing wears off however long the sequence is.
            Training stays soft.

    Raises:
        ShapeError: a size under 1, more reads than slots, or an inner that does not take x and what the stacks show.
        ConfigError: a noise under 0.

    Example:
        >>> cell = StackMemory.around(LSTM, 8, 32, depth=16, width=4)
        >>> y, state = cell(torch.randn(4, 100, 8))
        >>> cell.lost(state).overflow
    """

    cite = "Joulin & Mikolov 2015, arXiv:1503.01007"

    def __init__(
        self,
        inner: Recurrence,
        *,
        depth: int = 32,
        width: int = 4,
        stacks: int = 1,
        reads: int = 1,
        noise: float = 0.0,
        hard: bool = False,
    ) -> None:
        shown = shown_size(depth, width, stacks, reads)
        if not isinstance(inner, Recurrence):
            raise ShapeError(f"StackMemory takes a recurrence, got {type(inner).__name__}")
        if inner.input_size <= shown:
            raise ShapeError(
                f"StackMemory: {type(inner).__name__} takes {inner.input_size} features, the stacks alone show {shown}",
                hint=f"give it {shown} more than x has, or build it by StackMemory.around",
            )
        if not noise >= 0:
            raise ConfigError(f"StackMemory: noise must be at least 0, got {noise}")
        super().__init__(inner.input_size - shown, inner.output_size)
        self.inner, self.shown = inner, shown
        self.depth, self.width, self.stacks, self.reads = depth, width, stacks, reads
        self.noise, self.hard = noise, hard
        self.act = nn.Linear(inner.output_size, stacks * (ACTIONS + width))

    @classmethod
    def around(
        cls,
        cell: Callable[..., Recurrence],
        input_size: int,
        hidden_size: int,
        *,
        depth: int = 32,
        width: int = 4,
        stacks: int = 1,
        reads: int = 1,
        noise: float = 0.0,
        hard: bool = False,
        **options: Any,
    ) -> Self:
        """`cell(input_size + what the stacks show, hidden_size, **options)` with stacks beside it."""
        inner = cell(input_size + shown_size(depth, width, stacks, reads), hidden_size, **options)
        return cls(inner, depth=depth, width=width, stacks=stacks, reads=reads, noise=noise, hard=hard)

    @property
    def output_size(self) -> int:
        return self.hidden_size + self.shown

    def init_state(self, batch_size: int, context: State | None = None) -> StackState:
        zeros = self.act.weight.new_zeros
        slots = zeros(batch_size, self.stacks, self.depth, self.width + 1)
        signals, totals = (zeros(batch_size, self.stacks, 2) for _ in range(2))
        return StackState(self.inner.init_state(batch_size, context), slots, signals, totals)

    def step(self, x_BI: Tensor, state: StackState, context: State | None = None) -> tuple[Tensor, StackState]:
        y_BH, inner = self.inner.step(torch.cat([x_BI, self.show(state.slots, state.signals)], 1), state.inner, context)
        logits_BSA, value_BSW = self.act(y_BH).unflatten(1, (self.stacks, -1)).split([ACTIONS, self.width], 2)
        a_BSA, before = self.actions(logits_BSA), state.slots
        push, pop, noop = a_BSA[..., None, None].unbind(2)
        new = F.pad(value_BSW.sigmoid(), (0, 1), value=1.0)[:, :, None]
        down = torch.cat([new, before[:, :, :-1]], 2)
        up = F.pad(before[:, :, 1:], (0, 0, 0, 1))
        slots = torch.addcmul(torch.addcmul(noop * before, push, down), pop, up)
        full_BSD = before[..., -1]
        signals = a_BSA[..., :2] * torch.stack([full_BSD[..., -1], 1 - full_BSD[..., 0]], 2)
        after = StackState(inner, slots, signals, state.totals + signals)
        return torch.cat([y_BH, self.show(slots, signals)], 1), after

    def show(self, slots: Tensor, signals: Tensor) -> Tensor:
        """What the stacks show, (B, R): their first slots, each with how full it is, then overflow and underflow."""
        return torch.cat([slots[:, :, : self.reads].flatten(1), signals.flatten(1)], 1)

    def actions(self, logits_BSA: Tensor) -> Tensor:
        """Shares (B, S, 3) of push, pop and no-op."""
        if self.hard and not self.training:
            likeliest_BS1 = logits_BSA.argmax(2, keepdim=True)
            return (likeliest_BS1 == torch.arange(ACTIONS, device=logits_BSA.device)).to(logits_BSA.dtype)
        if self.noise and self.training:
            logits_BSA = logits_BSA + self.noise * torch.randn_like(logits_BSA)
        return logits_BSA.softmax(2)

    @staticmethod
    def lost(state: StackState) -> Lost:
        """How many slots each stack has lost since the beginning, and how many were popped where nothing was."""
        return Lost(*state.totals.unbind(2))

    def extra_repr(self) -> str:
        sizes = f"{self.input_size}, depth={self.depth}, width={self.width}, stacks={self.stacks}, reads={self.reads}"
        return f"{sizes}, noise={self.noise}, hard={self.hard}"


def shown_size(depth: int, width: int, stacks: int = 1, reads: int = 1) -> int:
    """How many numbers the stacks show after a step: what inner reads beside x.

    Raises:
        ShapeError: a size under 1, or more reads than slots.
    """
    for name, size in (("depth", depth), ("width", width), ("stacks", stacks), ("reads", reads)):
        if size < 1:
            raise ShapeError(f"StackMemory: {name} must be at least 1, got {size}")
    if reads > depth:
        raise ShapeError(f"StackMemory: {reads} slots cannot be read of {depth}", hint="raise depth")
    return stacks * (reads * (width + 1) + 2)
