"""Fewer steps: a causal convolution over time that gives one output for every few inputs (speech: Collobert et al.
2016, arXiv:1609.03193; before a recurrence: Amodei et al. 2016, arXiv:1512.02595, section 3.3).

y[j] = silu(W [x[j s - k + 1]; ...; x[j s]] + b)                  counted from 1; before the first x are zeros

So y[j] is there as soon as its last input is, however the inputs are cut; of n inputs there are n // s outputs.

B rows, T inputs, M outputs, I and H their widths, k taps, s stride
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clew.errors import ShapeError
from clew.ops import definition as ref
from clew.ops.window import window


class SubsampleState(NamedTuple):
    past: Tensor  # (B, k - 1, I) the last inputs
    phase: Tensor  # (B,) inputs since the last output


class Subsample(nn.Module):
    """Args:
    input_size: I.
    hidden_size: H.
    stride: s.
    kernel: k, at least s; 0 for 2 s - 1, so that neighbours overlap.

    Raises:
        ShapeError: a kernel that leaves inputs out.
    """

    def __init__(self, input_size: int, hidden_size: int, stride: int = 2, kernel: int = 0) -> None:
        super().__init__()
        self.input_size, self.output_size, self.stride = input_size, hidden_size, stride
        self.kernel = kernel or 2 * stride - 1
        if stride < 1 or self.kernel < stride:
            raise ShapeError(f"a kernel of {kernel} leaves out inputs at a stride of {stride}", hint="make it longer")
        self.linear = nn.Linear(self.kernel * input_size, hidden_size)

    def init_state(self, batch_size: int) -> SubsampleState:
        weight = self.linear.weight
        past = weight.new_zeros(batch_size, self.kernel - 1, self.input_size)
        return SubsampleState(past, torch.zeros(batch_size, dtype=torch.int64, device=weight.device))

    def forward(
        self, x_BTI: Tensor, state: SubsampleState | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor, SubsampleState]:
        """Outputs (B, M, H), 0 behind the last of a row; how many each row has, (B,); and the state."""
        B, T, _ = x_BTI.shape
        state = self.init_state(B) if state is None else state
        taps, past = window(x_BTI, state.past, lengths)
        n_B = torch.full((B,), T, device=x_BTI.device) if lengths is None else lengths.to(x_BTI.device, torch.int64)
        made_B, phase_B = (state.phase + n_B) // self.stride, (state.phase + n_B) % self.stride
        j_M = torch.arange(int(made_B.max()) if B else 0, device=x_BTI.device)
        last_BM = (j_M + 1) * self.stride - 1 - state.phase[:, None]
        seen = torch.cat([ref.pick_steps(tap, last_BM.clamp(max=max(T - 1, 0))) for tap in taps], -1)
        y_BMH = ref.hide_padding(F.silu(self.linear(seen)), j_M < made_B[:, None])
        return y_BMH, made_B, SubsampleState(past, phase_B)
