"""The last few inputs beside each input: what short convolutions and token shifts read. Plain torch, any device.

    B batch, T time, D channels, P inputs of the past, d dilation, W = P / d + 1 taps

The past is state: the last P inputs, the oldest first, 0 before a beginning. A reset begins anew; padding is not seen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clew.ops import definition as ref


def window(
    x_BTD: Tensor, past_BPD: Tensor, lengths: Tensor | None = None, reset: Tensor | None = None, dilation: int = 1
) -> tuple[list[Tensor], Tensor]:
    """x[t - P], x[t - P + d], ..., x[t] as W tensors (B, T, D), and the past (B, P, D) after each row's last real
    step."""
    (B, T, _), P = x_BTD.shape, past_BPD.shape[1]
    real_BT = ref.valid_steps(x_BTD, lengths)
    if real_BT is not None:
        x_BTD = ref.hide_padding(x_BTD, real_BT)
    seen = torch.cat([past_BPD, x_BTD], 1)
    places = range(0, P + 1, dilation)
    taps = [seen[:, j : j + T] for j in places]
    if lengths is None and reset is None:
        return taps, seen[:, T:]
    t_T = torch.arange(T, device=x_BTD.device)
    n_B1 = (torch.full((B,), T) if lengths is None else lengths).to(x_BTD.device, torch.int64)[:, None]
    place_P = torch.arange(P, device=x_BTD.device)
    past = ref.pick_steps(seen, n_B1 + place_P)
    if reset is None:
        return taps, past
    # Where each step's piece begins, on the axis of `seen`; 0 for the one that the row came with.
    first_BT = torch.where(reset & (t_T < n_B1), P + t_T, 0).cummax(1).values
    taps = [ref.hide_padding(tap, j + t_T >= first_BT) for j, tap in zip(places[:-1], taps[:-1], strict=True)] + taps[
        -1:
    ]
    last_B1 = torch.cat([first_BT.new_zeros(B, 1), first_BT], 1).gather(1, n_B1)
    return taps, ref.hide_padding(past, n_B1 + place_P >= last_B1)


def short_conv(
    x_BTD: Tensor,
    weight_DW: Tensor,
    bias_D: Tensor | None,
    past_BPD: Tensor,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    silu: bool = False,
) -> tuple[Tensor, Tensor]:
    """Causal convolution over time, channel by channel: y[t] = sum over j of weight[:, j] x[t - P + j] + bias."""
    taps, past = window(x_BTD, past_BPD, lengths, reset)
    y = taps[-1] * weight_DW[:, -1]
    for j, tap in enumerate(taps[:-1]):
        y = torch.addcmul(y, tap, weight_DW[:, j])
    y = y if bias_D is None else y + bias_D
    y = F.silu(y) if silu else y
    real_BT = ref.valid_steps(x_BTD, lengths)
    return (y if real_BT is None else ref.hide_padding(y, real_BT)), past
