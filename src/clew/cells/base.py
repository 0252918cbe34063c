"""The contract: what every recurrence and every encoder is.

    state        = cell.init_state(batch_size, context=None)
    y_BH,  state = cell.step(x_BI, state, context=None)
    y_BTH, state = cell(x_BTI, state=None, context=None, *, lengths=None, reset=None)

    B batch, T time, I input_size, H output_size, N state size

State is explicit, immutable and always returned; batch is dimension 0 of every leaf; no module ever holds it.
The laws that follow from this stand in `clew.diagnose.laws`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from clew import ops, tree
from clew.errors import ShapeError
from clew.ops import definition as ref
from clew.tree import State


class Recurrence(nn.Module, ABC):
    """A causal map from sequences to sequences with an explicit state.

    A subclass gives `init_state` and `step`; `forward` is then their fold over time. One that has a faster way to the
    same numbers overrides `forward`. Options come after `input_size` and `hidden_size`.
    """

    cite: ClassVar[str] = ""
    input_size: int
    hidden_size: int

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if not isinstance(size, int) or size < 1:
                raise ShapeError(f"{type(self).__name__}: {name} must be a whole number of at least 1, got {size!r}")
        self.input_size, self.hidden_size = input_size, hidden_size

    @property
    def output_size(self) -> int:
        """Width of y; hidden_size unless an option changes it."""
        return self.hidden_size

    @abstractmethod
    def init_state(self, batch_size: int, context: State | None = None) -> State:
        """The state before the first step: a pure function of parameters and context (and, in training, of the
        per-sequence dropout masks, which are drawn here)."""

    @abstractmethod
    def step(self, x_BI: Tensor, state: State, context: State | None = None) -> tuple[Tensor, State]:
        """One time step: the output (B, H) and the next state."""

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """A whole sequence, or the next chunk of one.

        Args:
            x_BTI: inputs (B, T, I); T may be 0.
            state: the state before the first step; `init_state` when None.
            context: what does not move while the sequence runs, batch-first.
            lengths: (B,) real steps per row; what lies behind is padding and may hold anything.
            reset: (B, T) bool; the row's state is replaced by its initial state before that step.

        Returns:
            outputs (B, T, H), 0 where padded, and the state after each row's last real step.

        Raises:
            ShapeError: a tensor does not fit.
        """
        before, initial = self.begin(x_BTI, state, context, lengths, reset)
        return fold(self, x_BTI, before, initial, context, lengths=lengths, reset=reset)

    def gate_values(self, x_BTI: Tensor, state: State | None = None) -> dict[str, Tensor]:
        """What the gates say at each step of sequences, or of next chunks of some, (B, T, ...) from 0 to 1, by name.

        "keep" is the share of its state that a unit keeps; a cell that has no such gates gives nothing.
        """
        with ops.decays() as kept:
            self(x_BTI, state)
        rows, steps = x_BTI.shape[:2]
        shares = [share.expand(rows, -1, *share.shape[2:])[:, -steps:].flatten(2) for share in kept]
        if not shares:
            return {}
        if steps > 1 and all(share.shape[1] == 1 for share in shares):  # it ran step by step
            return {"keep": torch.cat(shares, 1).unflatten(1, (steps, -1)).flatten(2)}
        return {"keep": torch.cat(shares, -1)}

    def read_backwards(
        self,
        x_BTI: Tensor,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """A whole sequence from its last real step to its first, from the initial state.

        y stands where its x does; each piece that a reset begins is read by itself. See `forward`.
        """
        check_sequence(self, x_BTI, lengths, reset)

        def run(x: Tensor, begins: Tensor | None) -> tuple[Tensor, State]:
            return self(x, None, context, lengths=lengths, reset=begins)

        return ref.from_the_end(run, x_BTI, lengths, reset)

    def begin(
        self, x_BTI: Tensor, state: State | None, context: State | None, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[State, State]:
        """Check the arguments of `forward`; the state to start from and the one that a reset restores."""
        check_sequence(self, x_BTI, lengths, reset)
        B = x_BTI.shape[0]
        initial = self.init_state(B, context) if state is None or reset is not None else state
        if state is None:
            return initial, initial
        if (rows := tree.rows(state)) is not None and rows != B:
            raise ShapeError(f"{type(self).__name__}: x has {B} rows, the state has {rows}")
        return state, initial

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class Encoder(nn.Module, ABC):
    """A map from sequences to sequences that needs the future, so it has no `step` and cannot stream or decode."""

    input_size: int
    output_size: int

    @abstractmethod
    def forward(
        self,
        x_BTI: Tensor,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Outputs (B, T, H) and the final states. `reset` begins a new piece: nothing passes it in either direction."""


class Scanned(Recurrence):
    """A recurrence whose arithmetic over whole sequences comes first: a step is a sequence of one.

    A subclass gives `init_state` and `scan`.
    """

    @abstractmethod
    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        """Outputs (B, T, H) and the last state. x is 0 where padded; what the outputs are there does not matter.

        Args:
            initial: what a reset restores.
        """

    def step(self, x_BI: Tensor, state: State, context: State | None = None) -> tuple[Tensor, State]:
        y_BTH, state = self.scan(x_BI[:, None], state, state, None, None)
        return y_BTH[:, 0], state

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        before, initial = self.begin(x_BTI, state, context, lengths, reset)
        real_BT = ref.valid_steps(x_BTI, lengths)
        if real_BT is None:
            return self.scan(x_BTI, before, initial, None, reset)
        y_BTH, after = self.scan(ref.hide_padding(x_BTI, real_BT), before, initial, lengths, reset)
        return ref.hide_padding(y_BTH, real_BT), after


class LinearRecurrence(Scanned):
    """A diagonal linear recurrence h[t] = a[t] h[t-1] + b[t], whose a and b do not depend on h.

    A subclass gives `coefficients`, and if it wants `readout` and `state_size`; step and scan follow.
    """

    @property
    def state_size(self) -> int:
        return self.hidden_size

    @abstractmethod
    def coefficients(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Decay a and drive b, each (..., N), from inputs (..., I)."""

    def readout(self, h: Tensor, x: Tensor) -> Tensor:
        """Outputs (..., H) from states (..., N) and inputs (..., I)."""
        return h

    def init_state(self, batch_size: int, context: State | None = None) -> State:
        return next(self.parameters()).new_zeros(batch_size, self.state_size)

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        a_BTN, b_BTN = self.coefficients(x_BTI)
        h_BTN, h_BN = ops.linear_scan(a_BTN, b_BTN, state, initial=initial, lengths=lengths, reset=reset)
        return self.readout(h_BTN, x_BTI), h_BN


def fold(
    cell: Recurrence,
    x_BTI: Tensor,
    state: State,
    initial: State,
    context: State | None = None,
    *,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
) -> tuple[Tensor, State]:
    """`step` folded over time, with padding and resets: the `forward` of a cell that has no faster one."""
    return ref.scan(
        lambda x, s: cell.step(x, s, context), x_BTI, state, initial, lengths, reset, output_size=cell.output_size
    )


def beside_time(cell: str, input_size: int, gaps: bool) -> int:
    """How many columns of x are features, where with `gaps` the last one is elapsed time.

    Raises:
        ShapeError: there is none beside it.
    """
    if gaps and input_size < 2:
        raise ShapeError(f"{cell}: with gaps the last column of x is elapsed time, so input_size must be at least 2")
    return input_size - gaps


_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_sequence(
    module: Recurrence | Encoder, x_BTI: Tensor, lengths: Tensor | None = None, reset: Tensor | None = None
) -> None:
    """Raise ShapeError unless x, lengths and reset fit the module and each other."""
    name = type(module).__name__
    if x_BTI.ndim != 3 or x_BTI.shape[2] != module.input_size:
        raise ShapeError(f"{name} takes x of shape (batch, time, {module.input_size}), got {tuple(x_BTI.shape)}")
    B, T, _ = x_BTI.shape
    if lengths is not None:
        if lengths.shape != (B,) or lengths.dtype not in _WHOLE:
            raise ShapeError(
                f"{name}: lengths must be whole numbers of shape ({B},), got {lengths.dtype} {tuple(lengths.shape)}"
            )
        if B and not (int(lengths.min()) >= 0 and int(lengths.max()) <= T):
            raise ShapeError(f"{name}: lengths must lie between 0 and the {T} steps of x, got {lengths.tolist()[:8]}")
    if reset is not None and (reset.shape != (B, T) or reset.dtype != torch.bool):
        raise ShapeError(f"{name}: reset must be bool of shape ({B}, {T}), got {reset.dtype} {tuple(reset.shape)}")
