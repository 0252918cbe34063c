"""mLSTM, the matrix memory of xLSTM (Beck et al. 2024, arXiv:2405.04517, eq. 19-27; its layer as in xLSTM 7B,
Beck et al. 2025, arXiv:2503.13427).

q, k, v = W_q x / sqrt(K), W_k x, W_v x        per head; the paper divides k            B batch, T time, H heads
i~, f~  = cap(W_i x + b_i), cap(W_f x + b_f)    cap(z) = c tanh(z / c)                  K keys, V values of a head
m[t] = max(log f + m[t-1], i~)                  f = sigmoid(f~) or exp(f~); m: the stabiliser
C[t] = exp(log f + m[t-1] - m[t]) C[t-1] + exp(i~ - m[t]) k[t] v[t]'
n[t] = exp(log f + m[t-1] - m[t]) n[t-1] + exp(i~ - m[t]) k[t]
h[t] = C[t]' q[t] / max(|n[t]' q[t]|, exp(-m[t]))
y[t] = W_o (sigmoid(W_r x[t]) * norm(h[t]))                                     state: C_BHKW (W = V + 1), m_BH

n is the last column of C: the memory of a value that is always 1. The true memory is C exp(m), and y hardly depends on
m (only through eps), so where m begins is a matter of range; it begins at 0.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew import ops
from clew.cells.base import Scanned
from clew.cells.heads import HeadNorm, each_of, heads_of, split
from clew.errors import ConfigError
from clew.tree import State

HIGHEST = 80.0  # of -m where the floor exp(-m) is taken: beyond it float32 is infinite, and h is 0 either way


class MLSTMState(NamedTuple):
    C: Tensor  # (B, H, K, V + 1) the memory, with the normaliser n as its last column
    m: Tensor  # (B, H) the stabiliser: C stands for C exp(m)


class MLSTM(Scanned):
    """An LSTM with a matrix for a cell and exponential input gates; its gates see the input alone.

    Args:
        heads: how many; 0 for as many as leave each at least 64 units.
        keys: width of all keys together, as a part of hidden_size; 0.5 in xLSTM 7B.
        forget: "sigmoid" or "exp", the forget gate of eq. 25.
        gate_cap: soft bound of the input and forget gates before the exponential; 0 for none, 15 in xLSTM 7B.
        input_bias: where the input gates begin; -10 in xLSTM 7B.
        bias: of all maps; the gates always have one.
        eps: added to the normaliser, and that of the norm; 1e-6 in xLSTM 7B.

    Example:
        >>> y, state = MLSTM(8, 64, heads=2)(torch.randn(4, 100, 8))
    """

    cite = "Beck et al. 2024, arXiv:2405.04517"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int = 0,
        keys: float = 1.0,
        forget: Literal["sigmoid", "exp"] = "sigmoid",
        gate_cap: float = 0.0,
        input_bias: float = 0.0,
        bias: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.heads = heads_of("MLSTM", hidden_size, heads)
        width = round(hidden_size * keys)
        if forget not in ("sigmoid", "exp"):
            raise ConfigError(f"MLSTM: forget must be 'sigmoid' or 'exp', got {forget!r}")
        if gate_cap < 0:
            raise ConfigError(f"MLSTM: gate_cap must be at least 0 (0 for none), got {gate_cap}")
        self.key_size, self.value_size = each_of("MLSTM", "keys", width, self.heads), hidden_size // self.heads
        self.forget, self.gate_cap, self.input_bias, self.eps = forget, gate_cap, input_bias, eps
        self.to_q = nn.Linear(input_size, width, bias)
        self.to_k = nn.Linear(input_size, width, bias)
        self.to_v = nn.Linear(input_size, hidden_size, bias)
        self.to_gate = nn.Linear(input_size, hidden_size, bias)
        self.to_i = nn.Linear(input_size, self.heads)
        self.to_f = nn.Linear(input_size, self.heads)
        self.norm = HeadNorm(self.heads, self.value_size, centred=True, bias=bias, eps=eps)
        self.out = nn.Linear(hidden_size, hidden_size, bias)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """As the authors begin: small maps (Nguyen & Salazar 2019), gates that do not see the input yet, forget gates
        spread over the heads from 3 to 6."""
        for linear in (self.to_q, self.to_k, self.to_v, self.to_gate, self.out):
            nn.init.normal_(linear.weight, std=(2 / (5 * linear.in_features)) ** 0.5)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        nn.init.zeros_(self.to_i.weight)
        nn.init.zeros_(self.to_f.weight)
        nn.init.normal_(self.to_i.bias, self.input_bias, 0.1)
        self.to_f.bias.copy_(torch.linspace(3.0, 6.0, self.heads))

    def init_state(self, batch_size: int, context: State | None = None) -> MLSTMState:
        new = self.out.weight.new_zeros
        return MLSTMState(new(batch_size, self.heads, self.key_size, self.value_size + 1), new(batch_size, self.heads))

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        q, k, v = (split(to(x_BTI), self.heads) for to in (self.to_q, self.to_k, self.to_v))
        i, f = self.cap(self.to_i(x_BTI)), self.cap(self.to_f(x_BTI))
        f = F.logsigmoid(f) if self.forget == "sigmoid" else f
        m, last_m = ops.max_scan(f, i, state.m, initial=initial.m, lengths=lengths, reset=reset)
        before = torch.cat([state.m[:, None], m], 1)[:, :-1]
        if reset is not None:
            before = torch.where(reset[:, :, None], initial.m[:, None], before)
        # Both are at most 1 by what m is; padded steps, where m is 0, must not overflow either.
        kept, written = (log.clamp(max=0).exp()[..., None] for log in (before + f - m, i - m))
        v = F.pad(v, (0, 1), value=1.0)
        o, C = ops.matrix_scan(q, k * written, v, kept, state.C, initial=initial.C, lengths=lengths, reset=reset)
        o, n = o.split([self.value_size, 1], -1)  # of q before it is divided
        scale, floor = self.key_size**-0.5, (-m).clamp(max=HIGHEST).exp()[..., None]
        h = o * (scale / (torch.maximum((scale * n).abs(), floor) + self.eps))
        return self.out(self.norm(h) * torch.sigmoid(self.to_gate(x_BTI))), MLSTMState(C, last_m)

    def cap(self, gate: Tensor) -> Tensor:
        """Within plus and minus `gate_cap`, smoothly."""
        return self.gate_cap * torch.tanh(gate / self.gate_cap) if self.gate_cap else gate
