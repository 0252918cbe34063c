"""A step by torch, for what a Stepper has no operations for: slower, and the same to use."""

from __future__ import annotations

import numpy as np
import torch

from clew import tree
from clew.stream.recorder import Steps, blank


class EagerSteps:
    """A model on the CPU, B rows side by side; see `Stepper`, of which it has what a batch needs."""

    def __init__(self, model: Steps, batch_size: int) -> None:
        self.model, self._like = model, model.init_state(batch_size)
        device = next(model.parameters()).device
        self._device = device
        self.leaves = [leaf.detach().cpu().numpy().copy() for leaf in tree.leaves(self._like)]
        self.x = blank(model, batch_size).numpy().copy()
        self.y = np.empty((batch_size, 0))

    @torch.no_grad()
    def run(self) -> None:
        """One step from `x` to `y`, the state moved on."""
        state = tree.rebuild(self._like, iter([torch.from_numpy(leaf).to(self._device) for leaf in self.leaves]))
        x = torch.from_numpy(self.x).to(self._device)
        kind = next(self.model.parameters()).dtype
        y, state = self.model.step(x.to(kind) if x.is_floating_point() else x, state)
        self.y = y.cpu().numpy()
        for ours, leaf in zip(self.leaves, tree.leaves(state), strict=True):
            ours[...] = leaf.cpu().numpy()
