"""Causal self-attention over the last steps (Vaswani et al. 2017, arXiv:1706.03762), as a recurrence.

q[t], k[t], v[t] = W_q x[t], W_k x[t], W_v x[t]                                   B batch, T time, H heads, K of a head
p[t, s] = softmax over s of q[t]' k[s] / sqrt(K),   t - W < s <= t                W window: how far it sees
y[t] = W_o sum over s of p[t, s] v[s]

With `rotary` q[t] and k[t] are turned by t times a frequency for each pair of units, so that their product depends on
t - s (Su et al. 2021, arXiv:2104.09864, eq. 34). State: keys and values (B, W, H, K) of the last W steps, the oldest
first and zero where unused, and the position (B,), the number of steps since the beginning.

It sees the last W steps and nothing older; T steps cost T x W time, and memory for a few dozen queries at once.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.cells.base import Scanned
from clew.cells.heads import heads_of, split, turn
from clew.errors import ConfigError, ShapeError
from clew.tree import State

QUERIES = 64  # answered at once: enough for full matrix products, few beside the window


class AttentionState(NamedTuple):
    keys: Tensor  # (B, W, H, K)
    values: Tensor  # (B, W, H, K)
    position: Tensor  # (B,) int64


class Attention(Scanned):
    """Multi-head self-attention whose state is a cache of fixed size: the measure of what a recurrence forgets.

    Args:
        heads: how many; 0 for as many as leave each at least 64 units.
        window: steps that it sees, the present one included.
        rotary: whether it knows how long ago a step was. A unit that is left over when a head is odd is not turned.
        base: the slowest pair turns by nearly 1 / base radians a step.

    Raises:
        ShapeError: heads that do not share hidden_size equally, or an empty window.
        ConfigError: a base under 1.

    Example:
        >>> y, state = Attention(8, 64, heads=2, window=50)(torch.randn(4, 100, 8))
    """

    cite = "Vaswani et al. 2017, arXiv:1706.03762"
    turns: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int = 0,
        window: int = 256,
        bias: bool = False,
        rotary: bool = True,
        base: float = 10_000.0,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if window < 1:
            raise ShapeError(f"Attention: window must be at least 1, got {window}")
        if base < 1:
            raise ConfigError(f"Attention: base must be at least 1, got {base}")
        self.heads, self.window, self.rotary = heads_of("Attention", hidden_size, heads), window, rotary
        self.size = hidden_size // self.heads
        self.to_qkv = nn.Linear(input_size, 3 * hidden_size, bias)
        self.out = nn.Linear(hidden_size, hidden_size, bias)
        for part in (*self.to_qkv.weight.split(hidden_size), self.out.weight):
            nn.init.xavier_uniform_(part)
        # Angles in units of 2^-64 turns: position times frequency wraps as whole numbers do, which is what an angle
        # does too, so that no position is too large for them.
        rates = [base ** (-2 * i / self.size) / (2 * math.pi) for i in range(self.size // 2)]
        turns = torch.tensor([round(rate * 2**64) for rate in rates], dtype=torch.int64)
        self.register_buffer("turns", turns, persistent=False)

    def init_state(self, batch_size: int, context: State | None = None) -> AttentionState:
        zeros = self.out.weight.new_zeros(batch_size, self.window, self.heads, self.size)
        return AttentionState(zeros, zeros.clone(), torch.zeros(batch_size, dtype=torch.int64, device=zeros.device))

    def step(self, x_BI: Tensor, state: AttentionState, context: State | None = None) -> tuple[Tensor, AttentionState]:
        q, k, v = split(self.to_qkv(x_BI), 3 * self.heads).chunk(3, 1)
        if self.rotary:
            cos, sin = (each[:, 0] for each in self.angles(state.position[:, None], x_BI.dtype))
            q, k = turn(q, cos, sin), turn(k, cos, sin)
        position = state.position + 1
        shown_BW = position[:, None] + torch.arange(self.window, device=x_BI.device) >= self.window
        keys = torch.cat([state.keys[:, 1:], k[:, None]], 1)
        values = torch.cat([state.values[:, 1:], v[:, None]], 1)
        score_BWH = (q[:, None] * self.size**-0.5 * keys).sum(-1)
        weight_BWH = score_BWH.masked_fill(~shown_BW[:, :, None], -math.inf).softmax(1)
        o_BHK = (weight_BWH[..., None] * values).sum(1)
        # 0, or NaN where something seen was not finite: then a score is not, or a value times any weight.
        lost_B = (score_BWH * 0.0).sum((1, 2)) + (o_BHK * 0.0).sum((1, 2))
        return self.out(o_BHK.flatten(1)) + lost_B[:, None], AttentionState(keys, values, position)

    def scan(
        self, x_BTI: Tensor, state: State, initial: State, lengths: Tensor | None, reset: Tensor | None
    ) -> tuple[Tensor, State]:
        (B, T, _), W, device = x_BTI.shape, self.window, x_BTI.device
        t_T = torch.arange(T, device=device)
        # The step at which the sequence began that each step is of: not above 0 for the one that the row came with.
        came_B1 = -state.position[:, None]
        began_BT = came_B1.expand(B, T)
        if reset is not None:
            began_BT = torch.where(reset, t_T, came_B1).cummax(1).values
        q, k, v = split(self.to_qkv(x_BTI), 3 * self.heads).chunk(3, 2)
        if self.rotary:
            cos, sin = self.angles(t_T - began_BT, x_BTI.dtype)
            q, k = turn(q, cos, sin), turn(k, cos, sin)
        # All that was ever seen, on one axis: the cache at 0..W-1, step t at W + t.
        keys, values = torch.cat([state.keys, k], 1), torch.cat([state.values, v], 1)
        o, lost_BT = self.attend(q * self.size**-0.5, keys, values, began_BT)
        y = torch.where(lost_BT[:, :, None], math.nan, self.out(o.flatten(2)))
        n_B1 = torch.full((B, 1), T, device=device) if lengths is None else lengths.to(device, torch.int64)[:, None]
        last_B1 = torch.cat([came_B1, began_BT], 1).gather(1, n_B1)
        place_BW = n_B1 + torch.arange(W, device=device)
        index = place_BW[:, :, None, None].expand_as(state.keys)
        keys, values = keys.gather(1, index), values.gather(1, index)
        if reset is not None:  # nothing from before the latest is left
            began_anew_B1 = (reset & (t_T < n_B1)).any(1, keepdim=True)
            used_BW11 = (~began_anew_B1 | (place_BW >= W + last_B1))[:, :, None, None]
            keys, values = torch.where(used_BW11, keys, 0.0), torch.where(used_BW11, values, 0.0)
        return y, AttentionState(keys, values, (n_B1 - last_B1)[:, 0])

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, began_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Answers to queries (B, T, H, K) from the axis (B, W + T, H, K) of all that was seen, and which are NaN."""
        T, W = q.shape[1], self.window
        # What a step does not see has weight 0, and 0 times NaN is NaN: so it is taken out for all, and those that do
        # see it are counted.
        lost, broken, other = (~each.isfinite().flatten(2).all(2) for each in (q, keys, values))
        q, keys, values = (torch.where(each.isfinite(), each, 0.0) for each in (q, keys, values))
        up_to = F.pad((broken | other).cumsum(1), (1, 0))
        step_T = torch.arange(T, device=q.device)
        first_BT = torch.maximum(step_T + 1, W + began_BT)
        lost = lost | (up_to[:, W + 1 :] > up_to.gather(1, first_BT))
        answers = []
        for start in range(0, T, QUERIES):
            end = min(start + QUERIES, T)
            near = torch.arange(start + 1, W + end, device=q.device)
            shown = (near >= first_BT[:, start:end, None]) & (near <= W + step_T[start:end, None])
            score = torch.einsum("bthk,bshk->bhts", q[:, start:end], keys[:, start + 1 : W + end])
            weight = score.masked_fill(~shown[:, None], -math.inf).softmax(-1)
            answers.append(torch.einsum("bhts,bshk->bthk", weight, values[:, start + 1 : W + end]))
        return torch.cat(answers, 1) if answers else q, lost

    def angles(self, position_BT: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines (B, T, 1, K / 2), computed in float32 at least."""
        wide = torch.promote_types(dtype, torch.float32)
        angle = (position_BT[:, :, None, None] * self.turns).to(wide) * (2 * math.pi / 2**64)
        return angle.cos().to(dtype), angle.sin().to(dtype)
