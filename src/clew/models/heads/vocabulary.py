"""The cross-entropy of one unit of thousands, from the outputs below, a few rows at a time.

scores = y W' + b,  loss = mean over rows of -(1 - s) ln p[target] - s / K sum over k of ln p[k]

All scores of a batch would be its largest tensor by far, and fresh memory for them costs more than their arithmetic. So
the gradients of y, W and b are computed with the loss, while a few rows' scores are at hand (Wijmans et al. 2024,
arXiv:2411.09009, have the same on a GPU).

N rows, W width, K units, s smoothing
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clew.ops import precision

LARGE = 1024  # units: below, torch's own takes no more memory than it is worth
BYTES = 16 << 20  # of scores at a time


def takes(y: Tensor, weight: Tensor) -> bool:
    """Whether this is faster than torch's own, and torch is asked for nothing but a gradient."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    return y.device.type == "cpu" and y.dtype == weight.dtype == torch.float32 and len(weight) >= LARGE and len(y) > 0


def cross_entropy(y: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, smoothing: float) -> Tensor:
    """Args: outputs (N, W), (K, W), (K,) and units (N,)."""
    return _CrossEntropy.apply(y, weight, bias, target.long(), smoothing)  # pyright: ignore[reportReturnType]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, smoothing: float) -> Tensor:
        (N, K), needed = (len(y), len(weight)), ctx.needs_input_grad
        learns = any(needed)
        rounds = precision.rounds()
        given, factors = (y.bfloat16(), weight.bfloat16()) if rounds else (y, weight)
        dy, dw = (torch.empty_like(y), torch.zeros_like(weight)) if learns else (None, None)
        db = torch.zeros(K) if learns else None
        total = torch.zeros((), dtype=torch.float64)
        few = max(1, BYTES // (4 * K))
        for first in range(0, N, few):
            here = slice(first, first + few)
            scores = F.linear(given[here], factors).float()
            if bias is not None:
                scores += bias
            logp = torch.log_softmax(scores, 1, dtype=torch.float32)
            at = target[here, None]
            total -= (1 - smoothing) * logp.gather(1, at).sum(dtype=torch.float64)
            if smoothing:
                total -= smoothing / K * logp.sum(dtype=torch.float64)
            if dy is None or dw is None or db is None:
                continue
            d = logp.exp_().sub_(smoothing / K) if smoothing else logp.exp_()
            d.scatter_add_(1, at, torch.full_like(at, smoothing - 1, dtype=d.dtype)).div_(N)
            db.addmv_(d.t(), torch.ones(len(d)))
            if rounds:
                d = d.bfloat16()
                dw += d.t() @ given[here]
            else:
                dw.addmm_(d.t(), given[here])
            dy[here] = d @ factors
        ctx.save_for_backward(dy, dw, db if bias is not None else None)
        return (total / N).to(y.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        dy, dw, db = ctx.saved_tensors
        return (*(None if d is None else d * gradient for d in (dy, dw, db)), None, None)
