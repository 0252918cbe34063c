"""Closed-form continuous-time network (Hasani et al. 2022, Nature Machine Intelligence 4, arXiv:2106.13898, eq. 2-4).

z    = backbone([x[t]; h[t-1]])            an MLP                        B batch, T time, H hidden
f, g = tanh(W_f z + b_f), tanh(W_g z + b_g)                              s[t] time since the step before
m    = sigmoid((W_a z + b_a) s[t] + W_b z + b_b)
h[t] = (1 - m) * f + m * g                                               "default"
h[t] = f + m * g                                                         "no gate"
h[t] = A - A * exp(-s[t] (|tau| + |F|)) * F,   F = W_f z + b_f           "pure", a solution of the equation itself

With `mixed` an LSTM's cell moves h[t-1] first, so that the gradient need not pass the liquid one (section "mixed
memory").                                                                state: h_BH, c_BH
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.cells.base import Scanned, beside_time
from clew.cells.classical import choice
from clew.errors import ConfigError, ShapeError
from clew.ops import Weights, Zoneout
from clew.ops import definition as ref
from clew.tree import State

ACTIVATIONS = {
    "lecun tanh": lambda x: 1.7159 * torch.tanh(0.666 * x),  # LeCun et al. 1998, rounded as the authors have it
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": F.silu,
    "gelu": F.gelu,
}


class CfCState(NamedTuple):
    h: Tensor  # (B, H)
    c: State = ()  # (B, H) with mixed memory


class CfC(Scanned):
    """A network whose state follows a differential equation, in a closed form that needs no solver.

    Args:
        mode: see the equations; "default" interpolates between two of its answers by the time that has passed.
        units: width of the backbone's layers.
        layers: of the backbone; 0 for none.
        activation: "lecun tanh", "tanh", "relu", "silu" or "gelu".
        dropout: behind each layer of the backbone.
        mixed: mixed memory.
        gaps: the last column of x is the time since the step before, and is read as nothing else; else it is 1.

    Raises:
        ConfigError: an unknown mode or activation, or a dropout that is no probability.
        ShapeError: sizes that are too small, or gaps without another column.

    Example:
        >>> y, state = CfC(8, 32, gaps=True)(torch.rand(4, 100, 8))
    """

    cite = "Hasani et al. 2022, arXiv:2106.13898"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        mode: Literal["default", "no gate", "pure"] = "default",
        units: int = 128,
        layers: int = 1,
        activation: str = "lecun tanh",
        dropout: float = 0.0,
        mixed: bool = False,
        gaps: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.mode = choice("mode", mode, ("default", "no gate", "pure"))
        self.activation = choice("activation", activation, tuple(ACTIVATIONS))
        if units < 1 or layers < 0:
            raise ShapeError(f"CfC: units must be at least 1 and layers at least 0, got {units} and {layers}")
        if not 0 <= dropout < 1:
            raise ConfigError(f"CfC: dropout must be at least 0 and under 1, got {dropout}")
        self.dropout, self.gaps, H = dropout, gaps, hidden_size
        self.features = beside_time("CfC", input_size, gaps)
        # The last map gives all that the mode reads off z: f, g, a and b one below the other, or F alone.
        sizes = [self.features + H, *[units] * layers, H if mode == "pure" else 4 * H]
        maps = [nn.Linear(n, m) for n, m in pairwise(sizes)]
        self.first, self.rest = maps[0], nn.ModuleList(maps[1:])
        for part in [*(each.weight for each in maps[:-1]), *maps[-1].weight.split(H)]:
            nn.init.xavier_uniform_(part)
        bound = (6 / (1 + H)) ** 0.5  # as the official code draws them, which takes them for matrices
        self.tau = nn.Parameter(torch.empty(H).uniform_(-bound, bound)) if mode == "pure" else None
        self.A = nn.Parameter(torch.empty(H).uniform_(-bound, bound)) if mode == "pure" else None
        self.memory_x = nn.Linear(self.features, 4 * H) if mixed else None
        self.memory_h = nn.Parameter(torch.empty(4 * H, H)) if mixed else None
        if self.memory_x is not None and self.memory_h is not None:
            nn.init.xavier_uniform_(self.memory_x.weight)
            nn.init.orthogonal_(self.memory_h)
            nn.init.uniform_(self.memory_x.bias, -0.1, 0.1)
            with torch.no_grad():
                self.memory_x.bias[H : 2 * H] += 1  # of the forget gate

    def init_state(self, batch_size: int, context: State | None = None) -> CfCState:
        zeros = self.first.weight.new_zeros(batch_size, self.hidden_size)
        return CfCState(zeros, () if self.memory_h is None else zeros.clone())

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        s_BT1, x = torch.ones_like(x_BTI[..., :1]), x_BTI
        if self.gaps:
            s_BT1, x = x_BTI[..., -1:], x_BTI[..., :-1]
        read = F.linear(x, self.first.weight[:, : self.features], self.first.bias)
        given = (s_BT1, read) if self.memory_x is None else (s_BT1, read, self.memory_x(x))

        def step(given: tuple[Tensor, ...], s: State) -> tuple[Tensor, State]:
            h, c = s
            if self.memory_x is not None and self.memory_h is not None:
                w = Weights(self.memory_x.weight, self.memory_h)
                h, c = ref.lstm_step(given[2], h, c, h, w, Zoneout())
            z = given[1] + F.linear(h, self.first.weight[:, self.features :])
            for each in self.rest:
                z = each(F.dropout(ACTIVATIONS[self.activation](z), self.dropout, self.training))
            h = self.answer(z, given[0])
            return h, CfCState(h, c)

        return ref.scan(step, given, state, initial, lengths, reset, output_size=self.hidden_size)

    def answer(self, z: Tensor, s: Tensor) -> Tensor:
        """The next h (B, H) from what the last map gave and the elapsed times (B, 1)."""
        if self.tau is not None and self.A is not None:
            return self.A - self.A * torch.exp(-s * (self.tau.abs() + z.abs())) * z
        f, g, a, b = z.chunk(4, -1)
        m, f, g = torch.sigmoid(a * s + b), torch.tanh(f), torch.tanh(g)
        return f + m * g if self.mode == "no gate" else f + m * (g - f)
