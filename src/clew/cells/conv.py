"""Causal convolution over time: a recurrence that remembers its last inputs and nothing else, so that what stands above
it reads short patterns in place of single steps (dilated: van den Oord et al. 2016, arXiv:1609.03499, section 2.1).

y[t] = f(W [x[t - (k - 1) d]; ...; x[t - d]; x[t]] + b)            before the first x are zeros

B batch, T time, I input, k kernel, d dilation                     state: the last (k - 1) d inputs, (B, (k - 1) d, I)
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from clew.cells.base import Scanned
from clew.cells.classical import choice
from clew.errors import ConfigError
from clew.ops.window import window
from clew.tree import State

ACTIVATIONS = {"relu": torch.relu, "silu": nn.functional.silu, "tanh": torch.tanh, "none": lambda x: x}


class Conv(Scanned):
    """What the last `(kernel - 1) * dilation + 1` inputs come to.

    Args:
        kernel: k, the inputs that an output sees.
        dilation: d, the steps from one of them to the next.
        activation: f.

    Raises:
        ConfigError: a kernel or dilation under 1, or an unknown activation.

    Example:
        >>> body = Stack(Conv(40, 128, kernel=5), LSTM(128, 128))
    """

    cite = "van den Oord et al. 2016, arXiv:1609.03499"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        kernel: int = 5,
        dilation: int = 1,
        activation: Literal["relu", "silu", "tanh", "none"] = "silu",
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if kernel < 1 or dilation < 1:
            raise ConfigError(f"Conv: kernel and dilation must be at least 1, got {kernel} and {dilation}")
        self.kernel, self.dilation = kernel, dilation
        self.activation = choice("activation", activation, tuple(ACTIVATIONS))
        self.linear = nn.Linear(kernel * input_size, hidden_size, bias)

    def init_state(self, batch_size: int, context: State | None = None) -> State:
        return self.linear.weight.new_zeros(batch_size, (self.kernel - 1) * self.dilation, self.input_size)

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        taps, past = window(x_BTI, state, lengths, reset, self.dilation)
        return ACTIVATIONS[self.activation](self.linear(torch.cat(taps, -1))), past
