"""Bidirectional recurrent network (Schuster & Paliwal 1997, IEEE Trans. Signal Processing 45).

    f[t] = forward(x[1..t])        b[t] = backward(x[T..t])        y[t] = [f[t]; b[t]] or f[t] + b[t] or their mean

Each row is turned round within its own length; a reset cuts both passes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from clew.cells.base import Encoder, Recurrence, check_sequence
from clew.cells.classical import choice
from clew.errors import ConfigError, ShapeError
from clew.tree import State


class Bidirectional(Encoder):
    """Two recurrences, one over the past and one over the future.

    Args:
        forwards, backwards: recurrences of the same input size (and, to be added, of the same output size).
        combine: "concat", "sum" or "mean".
        mask_future: in training, the probability that a step sees nothing of the backward pass, each step by itself
            (future masking). There y is the forward pass alone: [f; 0] for "concat", f for "sum" and "mean". At 1
            the backward pass can learn nothing, so it is left out in evaluation too.

    Returns:
        outputs (B, T, H) and the final states of both passes.
    """

    def __init__(
        self,
        forwards: Recurrence,
        backwards: Recurrence,
        combine: Literal["concat", "sum", "mean"] = "concat",
        mask_future: float = 0.0,
    ) -> None:
        super().__init__()
        if forwards.input_size != backwards.input_size:
            raise ShapeError(f"Bidirectional: the passes take {forwards.input_size} and {backwards.input_size} inputs")
        self.combine = choice("combine", combine, ("concat", "sum", "mean"))
        if combine != "concat" and forwards.output_size != backwards.output_size:
            raise ShapeError(
                f"Bidirectional: '{combine}' needs equal outputs, got {forwards.output_size}, {backwards.output_size}"
            )
        if not 0.0 <= mask_future <= 1.0:
            raise ConfigError(f"mask_future must lie between 0 and 1, got {mask_future}")
        self.forwards, self.backwards, self.mask_future = forwards, backwards, mask_future
        self.input_size = forwards.input_size
        self.output_size = forwards.output_size + (backwards.output_size if combine == "concat" else 0)

    def forward(
        self,
        x_BTI: Tensor,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, tuple[State, State]]:
        check_sequence(self, x_BTI, lengths, reset)
        f_BTH, f_final = self.forwards(x_BTI, None, context, lengths=lengths, reset=reset)
        b_BTH, b_final = self.backwards.read_backwards(x_BTI, context, lengths=lengths, reset=reset)
        return self._combine(f_BTH, b_BTH), (f_final, b_final)

    def _combine(self, f_BTH: Tensor, b_BTH: Tensor) -> Tensor:
        seen_BT1 = None
        if self.mask_future == 1.0 or (self.training and self.mask_future > 0.0):
            seen_BT1 = torch.rand(*b_BTH.shape[:2], 1, device=b_BTH.device) >= self.mask_future
            b_BTH = torch.where(seen_BT1, b_BTH, b_BTH.new_zeros(()))
        if self.combine == "concat":
            return torch.cat([f_BTH, b_BTH], -1)
        if self.combine == "sum":
            return f_BTH + b_BTH
        return (f_BTH + b_BTH) / 2 if seen_BT1 is None else torch.where(seen_BT1, (f_BTH + b_BTH) / 2, f_BTH)
