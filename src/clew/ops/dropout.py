"""Dropout (Srivastava et al. 2014, JMLR 15) whose mask costs little: 16 random bits a number in the place of torch's
64 on the CPU, where drawing them takes as long as a layer's arithmetic."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CHANCES = 1 << 16


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """x with each number 0 with probability p, to within 1/131,072, and the others divided by 1 - p; x itself outside
    training."""
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu" or p == 1.0 or torch.compiler.is_compiling():
        return F.dropout(x, p)
    n = x.numel()
    drawn = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(1 << 63), None).view(torch.int16)
    kept = drawn[:n].view(x.shape) >= round(p * CHANCES) - CHANCES // 2
    return x * kept.to(x.dtype).mul_(1.0 / (1.0 - p))
