"""AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) and its learning rate as a pure function of the step.

There is no scheduler object: what is a function of the step needs no state, so it cannot be resumed wrongly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from clew.errors import RunError


def make_optimizer(module: nn.Module, lr: float, weight_decay: float = 0.0) -> torch.optim.AdamW:
    """AdamW over all parameters that learn; biases, gains and other vectors are not decayed. Fused where torch can."""
    learning = [p for p in module.parameters() if p.requires_grad]
    assert learning, "a model without parameters has nothing to learn"
    groups = [
        {"params": [p for p in learning if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in learning if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in learning)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, fused=fused)


def rate(step: int, total: int, warmup_steps: int, lr: float) -> float:
    """The learning rate of update `step` (from 0): up in a line over the warm-up, then down a half cosine to 0."""
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    through = min(1.0, (step - warmup_steps) / max(1, total - warmup_steps))
    return lr * 0.5 * (1.0 + math.cos(math.pi * through))


def optimizer_tensors(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """Its state by parameter: `exp_avg/NAME`, `exp_avg_sq/NAME`, `step/NAME`; none before the first update."""
    return {
        f"{key}/{name}": value
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def fill_optimizer(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`: replaces the optimizer's state.

    Raises:
        RunError: a name that is no parameter of the module, or a shape that is not the parameter's.
    """
    parameters = dict(module.named_parameters())
    optimizer.state.clear()
    for full, value in tensors.items():
        key, _, name = full.partition("/")
        parameter = parameters.get(name)
        if parameter is None or value.shape not in (parameter.shape, torch.Size([])):
            raise RunError(f"the saved optimizer state '{full}' does not fit the model")
        # Fused AdamW counts its steps beside the parameter, the plain one on the CPU.
        device = parameter.device if key != "step" or optimizer.defaults.get("fused") else "cpu"
        optimizer.state[parameter][key] = value.to(device).clone()
