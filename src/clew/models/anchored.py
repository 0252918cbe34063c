"""A forecaster that starts as a naive forecast and learns what to add to it.

    p[t, k] = x at the latest step not after t that lies a whole number of lags before t + k     k = 1..K steps ahead
    e[t]    = (x[t] - x[t - lag]) / scale
    y[t, k] = p[t, k] + scale * inner([x[t]; e[t]])[k]

With lag 1 p is the last value, with the season's length it is the seasonal naive forecast, so trends and seasons are
followed outside the range seen in training (seasonal differencing: Box & Jenkins 1970, ch. 9). Where the past is
shorter than a lag, the sequence's first value stands in for what is missing.

    B batch, T time, C columns, K steps ahead, N target columns (the first N of C)
    state: past_BLC (the last L = lag inputs, oldest first, zero where unused), begun_B, and that of `inner`
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from clew.cells import Recurrence
from clew.errors import ShapeError
from clew.ops import definition as ref
from clew.tree import State


class AnchoredState(NamedTuple):
    past: Tensor  # (B, L, C)
    begun: Tensor  # (B,) bool
    inner: State


class Anchored(Recurrence):
    """Wraps a recurrence from [x; e] (2 C features; C without levels) to K x N corrections.

    Args:
        inner: takes C (or 2 C) features, gives ahead x targets.
        columns: C, the width of x.
        lag: L, 1 for the last value or the length of a season.
        scale: (C,) the size of x[t] - x[t - lag] in the training part; what a correction of 1 means.
        ahead: K.
        levels: whether `inner` sees x beside its change; a trending series is better forecast without.

    Returns (forward): forecasts (B, T, K x N), K outer.
    """

    scale: Tensor

    def __init__(
        self, inner: Recurrence, columns: int, lag: int, scale: Tensor, ahead: int, targets: int, levels: bool
    ) -> None:
        super().__init__(columns, ahead * targets)
        takes = columns * (2 if levels else 1)
        if (inner.input_size, inner.output_size) != (takes, ahead * targets):
            raise ShapeError(
                f"Anchored: the inner recurrence must map {takes} to {ahead * targets} features,"
                f" it maps {inner.input_size} to {inner.output_size}"
            )
        self.inner, self.lag, self.ahead, self.targets, self.levels = inner, lag, ahead, targets, levels
        self.register_buffer("scale", scale.clone())

    def init_state(self, batch_size: int, context: State | None = None) -> AnchoredState:
        past = self.scale.new_zeros(batch_size, self.lag, self.input_size)
        begun = torch.zeros(batch_size, dtype=torch.bool, device=past.device)
        return AnchoredState(past, begun, self.inner.init_state(batch_size, context))

    def step(self, x_BI: Tensor, state: AnchoredState, context: State | None = None) -> tuple[Tensor, AnchoredState]:
        past = torch.where(state.begun[:, None, None], state.past, x_BI[:, None].expand_as(state.past))
        features = self._features(x_BI, past[:, 0])
        past = torch.cat([past[:, 1:], x_BI[:, None]], 1)
        y, inner = self.inner.step(features, state.inner, context)
        base = past[:, self._places().to(x_BI.device), : self.targets].flatten(1)
        return base + self._unscaled(y), AnchoredState(past, torch.ones_like(state.begun), inner)

    def forward(
        self,
        x_BTI: Tensor,
        state: AnchoredState | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, AnchoredState]:
        before: AnchoredState = self.begin(x_BTI, state, context, lengths, reset)[0]
        (B, T, _), L, device = x_BTI.shape, self.lag, x_BTI.device
        real_BT = ref.valid_steps(x_BTI, lengths)
        if real_BT is not None:
            x_BTI = ref.hide_padding(x_BTI, real_BT)
        # All that was ever seen, on one axis: the past at 0..L-1, step t at L + t. A piece begins at a reset, and at
        # step 0 of a row that has not begun; nothing before its beginning is looked at.
        seen_BPC = torch.cat([before.past, x_BTI], 1)
        t_T = torch.arange(T, device=device)
        begins_BT = (~before.begun)[:, None] & (t_T == 0)
        if reset is not None:
            begins_BT = begins_BT | reset
        first_BT = torch.where(begins_BT, L + t_T, 0).cummax(1).values
        lagged_BTC = ref.pick_steps(seen_BPC, torch.maximum(t_T.expand(B, T), first_BT))
        y_BTK, inner = self.inner(
            self._features(x_BTI, lagged_BTC), before.inner, context, lengths=lengths, reset=reset
        )
        places = 1 + t_T[:, None] + self._places().to(device)
        base_BTKC = ref.pick_steps(seen_BPC, torch.maximum(places.expand(B, -1, -1), first_BT[:, :, None]).flatten(1))
        base_BTK = base_BTKC[:, :, : self.targets].reshape(B, T, self.hidden_size)
        y_BTK = base_BTK + self._unscaled(y_BTK)
        n_B = torch.full((B,), T, device=device) if lengths is None else lengths.to(device)
        if real_BT is not None:
            y_BTK = ref.hide_padding(y_BTK, real_BT)
        # The last L steps of each row; the beginning counts only where a step was taken.
        zero = torch.zeros(B, 1, dtype=torch.long, device=device)
        last_first_B1 = torch.cat([zero, first_BT], 1).gather(1, n_B[:, None])
        past = ref.pick_steps(seen_BPC, torch.maximum(n_B[:, None] + torch.arange(L, device=device), last_first_B1))
        return y_BTK, AnchoredState(past, before.begun | (n_B > 0), inner)

    def _features(self, x: Tensor, lagged: Tensor) -> Tensor:
        change = (x - lagged) / self.scale
        return torch.cat([x, change], -1) if self.levels else change

    def _unscaled(self, y: Tensor) -> Tensor:
        return y * self.scale[: self.targets].repeat(self.ahead)

    def _places(self) -> Tensor:
        """Where in the last L inputs the naive forecast of each step ahead lies, (K,)."""
        return torch.arange(self.ahead) % self.lag
