"""One step of a trained model in microseconds: packed weights, buffers bound once, no torch call.

    B rows (streams that move together), I input features, O output features

Weights are copied at construction: build another Stepper after the model has learned on. `weights` says how they are
kept: "float32"; "bfloat16", half the bytes; "int8", a quarter, with one scale to a row of W. What is computed is
float32 in any case. `error` measures what a choice costs on data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from clew import tree
from clew.errors import ClewError, ShapeError
from clew.ops import native
from clew.stream.program import KEPT, Program
from clew.stream.recorder import Steps, evaluating, take_down
from clew.tree import State


class Stepper:
    """A recurrence or a model, one step at a time.

    Args:
        model: any recurrence, or a Single model of one. Its `step` is run once and taken down; it may not look at the
            numbers themselves (`if x.sum() > 0`), as the same operations are carried out at every step.
        batch_size: B.
        weights: how they are kept.

    Raises:
        ClewError: the step has an operation of torch's that this has none for; the model's own `step` runs it.
        NotCausalError: the model needs the future.

    Example:
        >>> stepper = Stepper(GRU(64, 64))
        >>> y = stepper.step(x)             # x (1, 64), numpy or torch; y (1, 64)
    """

    x: np.ndarray
    """(B, I) the input of `run`; whole numbers (B, 1) where the model reads units of text."""
    y: np.ndarray
    """(B, O) the output of the latest step, overwritten by the next one."""
    leaves: list[np.ndarray]
    """The state itself, in the order of `tree.leaves`: what is written here is what the next step begins from."""

    def __init__(
        self,
        model: Steps,
        batch_size: int = 1,
        weights: Literal["float32", "bfloat16", "int8"] = "float32",
    ) -> None:
        if native._native is None:
            raise ClewError("a Stepper needs the compiled part of Clew", hint="`clew doctor` says what is missing")
        if weights not in KEPT:
            raise ClewError(f"unknown weights '{weights}'", hint=f"known: {', '.join(KEPT)}")
        self._model = model
        self._program = program = Program(weights)
        taken = take_down(model, batch_size, program)
        self._initial, self.x, self.y = taken.initial, taken.x.numpy(), taken.y.numpy()
        self.leaves = [leaf.numpy() for leaf in taken.leaves]
        self._run = program.steps.run
        self.reset()

    def run(self) -> None:
        """One step from `x` to `y`."""
        self._run()

    def step(self, x: np.ndarray | Tensor) -> np.ndarray:
        """The output (B, O) for an input (B, I), and the state moved on."""
        self.x[...] = x
        self.run()
        return self.y.copy()

    @property
    def state(self) -> State:
        """The state as the model's own `step` has it: a copy, of tensors."""
        return tree.rebuild(self._initial, iter([torch.from_numpy(leaf.copy()) for leaf in self.leaves]))

    @state.setter
    def state(self, state: State) -> None:
        leaves = list(tree.leaves(state))
        if [leaf.shape for leaf in leaves] != [leaf.shape for leaf in self.leaves]:
            raise ShapeError(f"the state must be {tree.describe(self._initial)}, got {tree.describe(state)}")
        for ours, leaf in zip(self.leaves, leaves, strict=True):
            ours[...] = leaf.detach().cpu().numpy()

    def reset(self, rows: Sequence[int] | slice = slice(None)) -> None:
        """Give these rows the state before the first step."""
        for ours, leaf in zip(self.leaves, tree.leaves(self._initial), strict=True):
            ours[rows] = leaf.detach().cpu().numpy()[rows]

    @torch.no_grad()
    def error(self, x_BTI: Tensor) -> float:
        """The largest difference from the model's own outputs over sequences, as a part of their spread.

        The state is as before afterwards.
        """
        before = self.state
        self.reset()
        with evaluating(self._model):
            theirs = self._model(x_BTI)[0].flatten(2).cpu()
        try:
            steps = [torch.from_numpy(self.step(x.cpu()).reshape(len(x), -1)) for x in x_BTI.unbind(1)]
        finally:
            self.state = before
        return float((torch.stack(steps, 1) - theirs).abs().max() / theirs.std().clamp_min(1e-12))
