"""Peaks of a probability, as a recurrence: a step is one once the steps around it are known to be lower.

fires[t] = p[t-W] >= threshold, p[t-W] > p[t-2W..t-W-1], p[t-W] >= p[t-W+1..t]          B batch, T time, W wait

So the answer to a step comes W steps later, and two peaks are more than W steps apart.     state: p[t-2W+1..t], (B, 2W)
"""

from __future__ import annotations

import torch
from torch import Tensor

from clew.cells import Recurrence
from clew.ops import definition as ref
from clew.tree import State


class Peaks(Recurrence):
    """Args:
    wait: W. At 0 every step that reaches the threshold is a peak.

    The threshold is a buffer, saved with the weights.
    """

    threshold: Tensor

    def __init__(self, wait: int) -> None:
        super().__init__(1, 1)
        self.wait = wait
        self.register_buffer("threshold", torch.tensor(0.5))

    def init_state(self, batch_size: int, context: State | None = None) -> Tensor:
        return self.threshold.new_zeros(batch_size, 2 * self.wait)

    def step(self, x_BI: Tensor, state: Tensor, context: State | None = None) -> tuple[Tensor, Tensor]:
        seen = torch.cat([state.to(x_BI), x_BI], 1)
        return self._fires(seen)[:, None], seen[:, 1:]

    def forward(
        self,
        x_BTI: Tensor,
        state: State | None = None,
        context: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        before, _ = self.begin(x_BTI, state, context, lengths, None)
        if reset is not None or not x_BTI.shape[1]:
            return super().forward(x_BTI, before, context, lengths=lengths, reset=reset)
        real_BT = ref.valid_steps(x_BTI, lengths)
        p_BT = ref.hide_padding(x_BTI, real_BT)[..., 0] if real_BT is not None else x_BTI[..., 0]
        seen = torch.cat([before.to(p_BT), p_BT], 1)
        fires_BT1 = self._fires(seen.unfold(1, 2 * self.wait + 1, 1))[..., None]
        if lengths is None or real_BT is None:
            return fires_BT1, seen[:, p_BT.shape[1] :]
        last = lengths.to(seen.device)[:, None] + torch.arange(2 * self.wait, device=seen.device)
        return ref.hide_padding(fires_BT1, real_BT), seen.gather(1, last)

    def whole(self, p_T: Tensor) -> Tensor:
        """Which steps of a sequence (T,) are peaks, (T,) bool; those at its end by the steps that there are."""
        over = torch.cat([p_T, p_T.new_zeros(self.wait)])
        return self(over[None, :, None])[0][0, self.wait :, 0] > 0

    def _fires(self, seen: Tensor) -> Tensor:
        """Of windows (..., 2W + 1), whether the step in the middle is a peak."""
        W = self.wait
        middle = seen[..., W]
        found = middle >= self.threshold
        if W:
            found = found & (middle > seen[..., :W].amax(-1)) & (middle >= seen[..., W + 1 :].amax(-1))
        return found.to(seen.dtype)

    def extra_repr(self) -> str:
        return f"wait={self.wait}"
