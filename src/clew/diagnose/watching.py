"""How far gradients reach while a model is trained: a look at each validation, as cheap as is asked for."""

from __future__ import annotations

import math
import time

import torch
from torch import nn

from clew.data.batch import Batch
from clew.data.pair_batch import PairBatch
from clew.diagnose.examine import reach
from clew.diagnose.flow import horizon
from clew.diagnose.looking import of_places
from clew.diagnose.probe import ROWS, STEPS, probe_of_batch
from clew.models import Single
from clew.models.paired import Paired
from clew.models.pointer import PointerNet
from clew.training import Batches
from clew.training.feed import to_device


class FlowWatch:
    """Says by layer how many steps gradients reach back, or of the places of a source.

    Args:
        model: as it is trained.
        batches: of which the first is looked at, again and again, so that what changes is the model.
        seed: of the batches.
        share: of the time that goes by, what looking may take; where it is too soon, it says nothing.
    """

    def __init__(self, model: nn.Module, batches: Batches, seed: int, share: float = 0.03) -> None:
        self.model, self.share = model, share
        batch = next(iter(batches.epoch(seed, 0)))
        self.batch = _cut(batch) if isinstance(batch, Batch) else batch
        self.began, self.spent = time.perf_counter(), 0.0

    def __call__(self) -> dict[str, float | None]:
        """Lags by layer; None for one that is longer than what is looked at."""
        started = time.perf_counter()
        if self.spent > self.share * (started - self.began):
            return {}
        with torch.enable_grad():
            curves = self._curves()
        self.spent += time.perf_counter() - started
        lags = {name: horizon(range(len(curve)), curve) for name, curve in curves.items()}
        return {name: None if math.isinf(lag) else lag for name, lag in lags.items()}

    def _curves(self) -> dict[str, list[float]]:
        model, batch = self.model, to_device(self.batch, next(self.model.parameters()).device)
        if isinstance(model, Single) and isinstance(batch, Batch):
            found = probe_of_batch(model, batch)
            return reach(found) if found else {}
        if isinstance(model, Paired | PointerNet) and isinstance(batch, PairBatch):
            return {"source": of_places(model, batch)}
        return {}


def _cut(batch: Batch) -> Batch:
    """Rows of one length, few and not too long."""
    T = batch.x.shape[1]
    lengths = torch.full((len(batch.x),), T) if batch.lengths is None else batch.lengths
    T = min(STEPS, int(lengths.median()))
    rows = (lengths >= T).nonzero()[:ROWS, 0]
    return Batch(batch.x[rows, :T], batch.target[rows, :T])
